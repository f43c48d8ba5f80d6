"""The process: sockets, HTTP's bytes, logs, signals and workers."""
