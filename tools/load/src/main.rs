//! Load generator for WebSocket servers: drives many connections from one thread and proves what arrived.
//!
//! Owns the command line and the exit status. Never interprets a message: each mode does that for itself.

mod belief;
mod cli;
mod connect;
mod density;
mod echo;
mod failover;
mod fanout;
mod fleet;
mod frame;
mod handshake;
mod numbering;
mod pace;
mod probe;
mod procfs;
mod report;
mod route;
mod target;
mod tls;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match run(&cli) {
        Ok(report) => {
            if cli.common().json {
                println!("{}", report.json());
            } else {
                print!("{report}");
            }
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("throng-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &cli::Cli) -> Result<report::Report, String> {
    match &cli.mode {
        cli::Mode::Density(args) => density::run(args),
        cli::Mode::Echo(args) => echo::run(args),
        cli::Mode::Fanout(args) => fanout::run(args),
        cli::Mode::Route(args) => route::run(args),
        cli::Mode::Connect(args) => connect::run(args),
        cli::Mode::Failover(args) => failover::run(args),
    }
}
