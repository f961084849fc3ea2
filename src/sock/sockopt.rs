//! SOL_SOCKET options.
