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
    /// Socket calls of a program whose TCP sockets are a stack server's
    #[value(skip)]
    Served,
}

impl Half {
    pub fn name(self) -> &'static str {
        match self {
            Half::Calls => "calls",
            Half::Packets => "packets",
            Half::Served => "served",
        }
    }

    /// The side that is compared with the kernel.
    pub fn peer(self) -> &'static str {
        match self {
            Half::Calls | Half::Packets => "usersock",
            Half::Served => "server",
        }
    }

    /// Arguments of its program on both sides.
    pub fn args(self) -> &'static [&'static str] {
        if self == Half::Served { &["--tcp"] } else { &[] }
    }

    /// What its sequences are made of, for a heading.
    pub fn what(self) -> &'static str {
        match self {
            Half::Calls => "socket calls",
            Half::Packets => "packets",
            Half::Served => "socket calls of a server's program",
        }
    }

    /// Sequences that `cargo xtask test` runs, from seed 1 on.
    pub fn fixed(self) -> u64 {
        match self {
            Half::Calls => 4000,
            Half::Packets => 800,
            Half::Served => 1000,
        }
    }

    /// Into how many runs at a time its seeds are divided: making a namespace with a device in it is mostly waiting,
    /// and so is a call that a server answers.
    pub fn parts(self) -> u64 {
        match self {
            Half::Calls => 1,
            Half::Packets | Half::Served => 4,
        }
    }

    /// The folder of the C program.
    pub fn folder(self) -> PathBuf {
        let calls = cargo::root().join("c-tests/differential");
        match self {
            Half::Calls | Half::Served => calls,
            Half::Packets => calls.join("packets"),
        }
    }

    /// The list of its known differences, and the pages that have their reasons.
    pub fn list(self) -> (PathBuf, &'static [&'static str]) {
        match self {
            Half::Calls | Half::Packets => (self.folder().join("known.txt"), &["docs/limits.md"]),
            // The stack is the same.
            Half::Served => (self.folder().join("served.txt"), &["docs/server.md", "docs/limits.md"]),
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
            sources.extend(["main.c", "served.c", "sys.c"].map(|file| Half::Calls.folder().join(file)));
        }
        sources.sort();
        Ok(sources)
    }

    /// The headers that a printed program of socket calls is made of; a sequence of packets is printed as text that
    /// the program takes.
    pub fn printed_headers(self) -> Option<[&'static str; 3]> {
        (self != Half::Packets).then_some(["values.h", "show.h", "calls.h"])
    }
}
