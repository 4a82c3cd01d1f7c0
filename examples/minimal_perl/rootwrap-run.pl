#!/usr/bin/env perl
# Have one command run by rootwrap-daemon, written from doc/source/reference/protocol.rst alone:
#
#   rootwrap-run.pl [--check] [--env NAME=VALUE]... [--timeout SECONDS] [--input] SOCKET WORD...
#
# Ends as the command does, with 128 and its number after a signal; 125 where nothing can be said about a command.
# With --check nothing runs: 0 if the command would be allowed, 1 if not. --input sends what is on standard input.
use strict;
use warnings;
use IO::Socket::UNIX;

use constant { M_HELLO => 0, M_RUN => 1, M_CHECK => 2, M_CANCEL => 3, M_RESULT => 4, M_FAILURE => 5, M_VERDICT => 6 };
use constant { VERSION => 1, MAX_FRAME => 64 << 20, FAILED => 125 };

# msgpack, as much of it as the protocol has; what is not the shortest encoding is read, too.
sub pack_int { my ($n) = @_; return $n < 128 ? pack('C', $n) : pack('C N', 0xce, $n) }
sub pack_bin { my ($bytes) = @_; return pack('C N', 0xc6, length $bytes) . $bytes }
sub pack_nil { return "\xc0" }
sub pack_array { my (@items) = @_; return pack('C N', 0xdd, scalar @items) . join '', @items }

my %ints = (0xcc => ['C', 1], 0xcd => ['n', 2], 0xce => ['N', 4], 0xcf => ['Q>', 8],
            0xd0 => ['c', 1], 0xd1 => ['s>', 2], 0xd2 => ['l>', 4], 0xd3 => ['q>', 8]);
my %texts = (0xc4 => 'C', 0xc5 => 'n', 0xc6 => 'N', 0xd9 => 'C', 0xda => 'n', 0xdb => 'N');
my %widths = (C => 1, n => 2, N => 4);

sub take {
    my ($in, $count) = @_;
    $count <= length($$in) or die "a frame ends too early\n";
    return substr $$in, 0, $count, '';
}

sub unpack_value {
    my ($in) = @_;
    my $head = unpack 'C', take($in, 1);
    return $head if $head < 0x80;
    return $head - 256 if $head >= 0xe0;
    return undef if $head == 0xc0;
    return $head - 0xc2 if $head == 0xc2 || $head == 0xc3;
    return take($in, $head & 0x1f) if ($head & 0xe0) == 0xa0;
    if (my $int = $ints{$head}) { return unpack $int->[0], take($in, $int->[1]) }
    if (my $width = $texts{$head}) { return take($in, unpack $width, take($in, $widths{$width})) }
    my $count = ($head & 0xf0) == 0x90 ? $head & 0x0f
        : $head == 0xdc ? unpack('n', take($in, 2))
        : $head == 0xdd ? unpack('N', take($in, 4))
        : die sprintf "no type of the protocol begins with %02x\n", $head;
    return [map { unpack_value($in) } 1 .. $count];
}

sub frame { my ($body) = @_; return pack('N', length $body) . $body }

sub read_whole {
    my ($socket, $count) = @_;
    my $bytes = '';
    while (length $bytes < $count) {
        my $got = sysread $socket, $bytes, $count - length $bytes, length $bytes;
        next if !defined $got && $!{EINTR};
        die 'the connection broke: ' . ($got // 1 ? "$!\n" : "the daemon closed it; the command may have run\n")
            if !$got;
    }
    return $bytes;
}

sub read_message {
    my ($socket) = @_;
    my $size = unpack 'N', read_whole($socket, 4);
    $size <= MAX_FRAME or die "a frame of $size bytes is more than was asked for\n";
    my $body = read_whole($socket, $size);
    my $message = unpack_value(\$body);
    ref $message eq 'ARRAY' && $body eq '' or die "a frame is no message\n";
    return @$message;
}

sub write_whole {
    my ($socket, $bytes) = @_;
    while (length $bytes) {
        my $wrote = syswrite $socket, $bytes;
        next if !defined $wrote && $!{EINTR};
        # The daemon may have said why, and closed: its last word is still to be read.
        return if !defined $wrote;
        substr $bytes, 0, $wrote, '';
    }
}

sub main {
    my ($check, $input, $timeout, @env) = (0, 0);
    while (@ARGV && $ARGV[0] =~ /^--/) {
        my $option = shift @ARGV;
        if ($option eq '--check') { $check = 1 }
        elsif ($option eq '--input') { $input = 1 }
        elsif ($option eq '--timeout') { $timeout = int 1000 * shift @ARGV }
        elsif ($option eq '--env') { push @env, pack_array(map { pack_bin($_) } split /=/, shift @ARGV, 2) }
        else { die "there is no option $option\n" }
    }
    @ARGV >= 2 or die "usage: rootwrap-run.pl [OPTION...] SOCKET WORD...\n";
    my $path = shift @ARGV;
    $SIG{PIPE} = 'IGNORE';
    my $socket = IO::Socket::UNIX->new(Peer => $path) or die "$path: $!\n";
    my $stdin = pack_nil();
    if ($input) { local $/; binmode STDIN; $stdin = pack_bin(<STDIN> // '') }
    my @request = (pack_int($check ? M_CHECK : M_RUN), pack_array(map { pack_bin($_) } @ARGV), pack_array(@env));
    push @request, $stdin, defined $timeout ? pack_int($timeout) : pack_nil() if !$check;
    # Neither side waits for the other's Hello.
    write_whole($socket, frame(pack_array(map { pack_int($_) } M_HELLO, VERSION, MAX_FRAME, 0))
        . frame(pack_array(@request)));
    $SIG{INT} = $SIG{TERM} = sub { write_whole($socket, frame(pack_array(pack_int(M_CANCEL)))) } if !$check;

    my ($type, @fields) = read_message($socket);
    if ($type == M_HELLO) {
        $fields[0] == VERSION or die "the daemon speaks version $fields[0]\n";
        ($type, @fields) = read_message($socket);
    }
    if ($type == M_FAILURE) {
        my ($id, $code, $message) = @fields;
        die "$code: $message" . (length $id ? " (request $id)" : '') . "\n";
    }
    if ($type == M_VERDICT && $check) {
        print $fields[1] ? "allowed by $fields[2]\n" : "denied\n";
        return $fields[1] ? 0 : 1;
    }
    $type == M_RESULT && !$check or die "message $type is no answer to this\n";
    my ($id, $returncode, $stdout, $stderr, $cause) = @fields;
    binmode $_ for *STDOUT, *STDERR;
    print STDOUT $stdout;
    print STDERR $stderr;
    print STDERR "rootwrap-run: the daemon ended the command: $cause\n" if length $cause;
    return $returncode < 0 ? 128 - $returncode : $returncode;
}

my $code = eval { main() };
if (!defined $code) {
    print STDERR "rootwrap-run: $@";
    exit FAILED;
}
close STDOUT or exit FAILED;
exit $code;
