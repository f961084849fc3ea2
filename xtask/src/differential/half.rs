//! What distinguishes the two halves: socket calls, and packets.

use std::path::PathBuf;

use crate::{Failure, cargo};

/// Which random sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Half {
    /// Socket calls of a program
    Calls,
    /// Packets to a host with sockets in every state
    Packets,
}

impl Half {
    pub fn name(self) -> &'static str {
        match self {
            Half::Calls => "calls",
            Half::Packets => "packets",
        }
    }

    /// What its sequences are made of, for a heading.
    pub fn what(self) -> &'static str {
        match self {
            Half::Calls => "socket calls",
            Half::Packets => "packets",
        }
    }

    /// Sequences that `cargo xtask test` runs, from seed 1 on.
    pub fn fixed(self) -> u64 {
        match self {
            Half::Calls => 4000,
            Half::Packets => 800,
        }
    }

    /// Into how many runs at a time its seeds are divided: making a namespace with a device in it is mostly waiting.
    pub fn parts(self) -> u64 {
        match self {
            Half::Calls => 1,
            Half::Packets => 4,
        }
    }

    /// The folder of the C program and of its list of known differences.
    pub fn folder(self) -> PathBuf {
        let calls = cargo::root().join("c-tests/differential");
        match self {
            Half::Calls => calls,
            Half::Packets => calls.join("packets"),
        }
    }

    /// The C files of its program: all of its folder, and of the other half's what both have.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn sources(self) -> Result<Vec<PathBuf>, Failure> {
        let mut sources: Vec<PathBuf> = std::fs::read_dir(self.folder())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
            .collect();
        if self == Half::Packets {
            sources.extend(["main.c", "sys.c"].map(|file| Half::Calls.folder().join(file)));
        }
        sources.sort();
        Ok(sources)
    }

    /// The headers that a printed program of socket calls is made of; a sequence of packets is printed as text that
    /// the program takes.
    pub fn printed_headers(self) -> Option<[&'static str; 3]> {
        (self == Half::Calls).then_some(["values.h", "show.h", "calls.h"])
    }
}
