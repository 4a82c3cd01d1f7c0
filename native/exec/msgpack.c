/* Write and read msgpack, as much of it as the messages need: msgpack/spec.md. */
#include "exec.h"

void put(struct bytes *bytes, const void *data, size_t size) {
    if (bytes->room - bytes->size < size) {
        bytes->room = (bytes->size + size) * 2;
        if (!(bytes->data = realloc(bytes->data, bytes->room))) fail(EXIT_INTERNAL, "no memory");
    }
    if (size) memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static void put_head(struct bytes *bytes, unsigned char kind, uint32_t value, int width) {
    unsigned char head[5] = {kind};
    for (int i = 0; i < width; i++) head[1 + i] = (unsigned char)(value >> 8 * (width - 1 - i));
    put(bytes, head, (size_t)width + 1);
}

void put_array(struct bytes *bytes, size_t count) { put_head(bytes, 0xdd, (uint32_t)count, 4); }
void put_number(struct bytes *bytes, uint32_t value) { put_head(bytes, 0xce, value, 4); }
void put_text(struct bytes *bytes, const char *text) {
    put_head(bytes, 0xdb, (uint32_t)strlen(text), 4);
    put(bytes, text, strlen(text));
}
void put_nil(struct bytes *bytes) { put_head(bytes, 0xc0, 0, 0); }

void put_binary(struct bytes *bytes, const char *data, size_t size) {
    put_head(bytes, 0xc6, (uint32_t)size, 4);
    put(bytes, data, size);
}

static uint64_t take(struct reader *reader, int width) {
    uint64_t value = 0;
    if (reader->end - reader->at < width) return reader->broken = 1, 0;
    while (width--) value = value << 8 | *reader->at++;
    return value;
}

uint32_t take_array(struct reader *reader) {
    unsigned kind = (unsigned)take(reader, 1);
    if (kind >= 0x90 && kind <= 0x9f) return kind & 0x0f;
    if (kind == 0xdc) return (uint32_t)take(reader, 2);
    if (kind == 0xdd) return (uint32_t)take(reader, 4);
    return reader->broken = 1, 0;
}

int64_t take_number(struct reader *reader) {
    unsigned kind = (unsigned)take(reader, 1);
    if (kind <= 0x7f) return kind;
    if (kind >= 0xe0) return (int8_t)kind;
    switch (kind) {
    case 0xcc: return (int64_t)take(reader, 1);
    case 0xcd: return (int64_t)take(reader, 2);
    case 0xce: return (int64_t)take(reader, 4);
    case 0xcf: case 0xd3: return (int64_t)take(reader, 8);
    case 0xd0: return (int8_t)take(reader, 1);
    case 0xd1: return (int16_t)take(reader, 2);
    case 0xd2: return (int32_t)take(reader, 4);
    }
    return reader->broken = 1, 0;
}

struct word take_word(struct reader *reader) {
    unsigned kind = (unsigned)take(reader, 1);
    uint64_t size;
    if (kind >= 0xa0 && kind <= 0xbf) size = kind & 0x1f;
    else if (kind == 0xc4 || kind == 0xd9) size = take(reader, 1);
    else if (kind == 0xc5 || kind == 0xda) size = take(reader, 2);
    else if (kind == 0xc6 || kind == 0xdb) size = take(reader, 4);
    else size = reader->broken = 1;
    if (reader->broken || size > (uint64_t)(reader->end - reader->at)) return reader->broken = 1, (struct word){0};
    struct word word = {reader->at, (size_t)size};
    reader->at += size;
    return word;
}

int take_truth(struct reader *reader) {
    unsigned kind = (unsigned)take(reader, 1);
    if (kind != 0xc2 && kind != 0xc3) reader->broken = 1;
    return kind == 0xc3;
}
