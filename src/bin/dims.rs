//! The one binary: a station and the commands round it.

use std::process::ExitCode;

/// Shards allocate and free small pieces all day; this allocator keeps that apart for each thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    dim::cli::main()
}
