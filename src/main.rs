//! The `throng` command.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use throng::cli::{self, Command, Configured, EXIT_USAGE};
use throng::config::{self, Loader, Settings};
use throng::descriptors;
use throng::net::Inherited;
use throng::server::StartError;
use throng::service::{self, Service};
use throng::{Server, balancer, client, logging};

/// How long the end of the process waits for the log.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match cli::parse(env::args_os()) {
        Ok(Command::Serve(args)) => run(*args, Server::start_with),
        Ok(Command::Balance(args)) => run(*args, balancer::start_with),
        Ok(Command::Client(matches)) => {
            // Where it cannot be raised, who needs it will be told of a connection that fails.
            let _ = descriptors::raise();
            client::args::run(&matches)
        }
        Ok(Command::Health(matches)) => client::health::run(&matches),
        Err(stop) => stop.report(),
    }
}

fn run<S: Service>(
    args: Configured<S::Config>,
    start: impl FnOnce(S::Config, Inherited) -> Result<S, StartError>,
) -> ExitCode {
    let loader = Loader::new(args.flags, env::vars_os());
    let (config, sources) = match loader.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    if args.print_config {
        return match io::stdout().write_all(config::print(&config, &sources).as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &error),
        };
    }
    let (format, levels) = config.logging();
    let logging = match logging::start(format, levels) {
        Ok(logging) => logging,
        Err(error) => return fail(1, &error),
    };
    let code = service::run(config, start, &loader, &logging);
    logging.flush_within(LOG_TIMEOUT);
    code
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "throng: {error}");
    ExitCode::from(code)
}
