//! The `throng` command.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use throng::cli::{self, Command, EXIT_USAGE, ServeArgs};
use throng::config::{self, Loader};
use throng::{client, logging, service};

/// How long the end of the process waits for the log.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match cli::parse(env::args_os()) {
        Ok(Command::Serve(args)) => serve(*args),
        Ok(Command::Client(matches)) => client::args::run(&matches),
        Ok(Command::Health(matches)) => client::health::run(&matches),
        Err(stop) => stop.report(),
    }
}

fn serve(args: ServeArgs) -> ExitCode {
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
    let logging = match logging::start(config.log_format, &config.log_level) {
        Ok(logging) => logging,
        Err(error) => return fail(1, &error),
    };
    let code = service::run(config, &loader, &logging);
    logging.flush_within(LOG_TIMEOUT);
    code
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "throng: {error}");
    ExitCode::from(code)
}
