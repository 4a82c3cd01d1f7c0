"""An unprivileged asyncio service: it streams `ip monitor` and reacts."""
