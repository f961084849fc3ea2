//! Holds the C test programs; see `cases/`.
