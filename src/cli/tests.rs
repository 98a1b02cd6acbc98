//! What the command line becomes, and what it says when it is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

fn run(line: &str) -> Result<Command, Stop> {
    parse(line.split_whitespace().map(OsString::from))
}

fn serve(line: &str) -> Configured<Config> {
    let Ok(Command::Serve(args)) = run(line) else { panic!("{line}: {:?}", run(line)) };
    *args
}

fn balance(line: &str) -> Configured<BalanceConfig> {
    let Ok(Command::Balance(args)) = run(line) else { panic!("{line}: {:?}", run(line)) };
    *args
}

#[test]
fn the_command_is_consistent() {
    command().debug_assert();
}

/// Flags of other programs that the documentation names: systemd/install, those in tools/, docker.
const FOREIGN: [&str; 9] =
    ["dry-run", "purge", "root", "seconds", "sockets", "speed", "strace", "ulimit", "uninstall"];

#[test]
fn flags_in_the_documentation_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    let command = command();
    let flags = command.get_subcommands().flat_map(|command| command.get_arguments());
    let known: BTreeSet<&str> = flags.filter_map(|flag| flag.get_long()).chain(FOREIGN).collect();
    for page in pages.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).expect("a page");
        for named in text.split("`--").skip(1).filter(|named| !named.starts_with('-')) {
            let end = named.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(named.len());
            assert!(known.contains(&named[..end]), "{}: there is no --{}", page.display(), &named[..end]);
        }
    }
}

#[test]
fn flags_become_parts() {
    fn shown<C: Settings>(args: &Configured<C>) -> Vec<(&'static str, Vec<String>)> {
        args.flags.values.iter().map(|(key, parts)| (key.name, parts.clone())).collect()
    }
    fn owned(expected: &[(&'static str, &[&str])]) -> Vec<(&'static str, Vec<String>)> {
        expected
            .iter()
            .map(|(name, parts)| (*name, parts.iter().map(ToString::to_string).collect()))
            .collect()
    }
    let check = |line: &str, expected: &[(&'static str, &[&str])]| {
        assert_eq!(shown(&serve(&format!("throng serve {line}"))), owned(expected), "{line}");
    };
    check("", &[]);
    check("--port 0 --ws-port=auto", &[("port", &["0"]), ("ws_port", &["auto"])]);
    check("--label a=1 --label b=x,y", &[("labels", &["a=1", "b=x,y"])]);
    check("--simulate --compression=false", &[("compression", &["false"]), ("simulate", &["true"])]);
    check("--messages-per-second -1", &[("messages_per_second", &["-1"])]);
    check("--admin-token-file /x", &[("admin_token_file", &["/x"])]);

    let check = |line: &str, expected: &[(&'static str, &[&str])]| {
        assert_eq!(shown(&balance(&format!("throng balance {line}"))), owned(expected), "{line}");
    };
    check("", &[]);
    check("--backend a:1,weight=2 --backend b:1", &[("backends", &["a:1,weight=2", "b:1"])]);
}

#[test]
fn every_flag_is_taken() {
    fn check<C: Settings>(parse: fn(&str) -> Configured<C>) {
        for key in C::keys() {
            let Some(flag) = key.flag else { continue };
            let args = parse(&format!("throng {} --{flag}=true", C::COMMAND));
            assert_eq!(args.flags.values, [(key, vec!["true".to_owned()])]);
        }
    }
    check(serve);
    check(balance);
}

#[test]
fn the_rest() {
    let args = serve("throng serve --config x.toml --print-config");
    assert_eq!((args.flags.file, args.print_config), (Some("x.toml".into()), true));
}

#[test]
fn a_usage_error_is_one_line() {
    let check = |line: &str, expected: &str| {
        assert_eq!(run(line), Err(Stop::Usage(expected.to_owned())), "{line}");
    };
    check(
        "throng serve --prot 1",
        "unexpected argument '--prot' found (a similar argument exists: '--port'); see throng serve --help",
    );
    check(
        "throng balance --backends a:1",
        "unexpected argument '--backends' found (a similar argument exists: '--backend'); \
         see throng balance --help",
    );
    check("throng serve --xyzzy", "unexpected argument '--xyzzy' found; see throng serve --help");
    check("throng serve extra", "unexpected argument 'extra' found; see throng serve --help");
    check(
        "throng serve --port",
        "a value is required for '--port <PORT>' but none was supplied; see throng serve --help",
    );
    check(
        "throng serve --port 1 --port 2",
        "the argument '--port <PORT>' cannot be used multiple times; see throng serve --help",
    );
    check(
        "throng serve --admin-token x",
        "unexpected argument '--admin-token' found (a similar argument exists: '--admin-token-file'); \
         see throng serve --help",
    );
    check(
        "throng sevre",
        "unrecognized subcommand 'sevre' (a similar subcommand exists: 'serve'); see throng --help",
    );
    check(
        "throng",
        "'throng' requires a subcommand but one was not provided [subcommands: serve, balance, client, health]; see throng --help",
    );
}

#[test]
fn any_usage_error_is_one_line() {
    use std::os::unix::ffi::OsStringExt;
    let broken = OsString::from_vec(b"--port=\xff".to_vec());
    for args in
        [vec!["throng".into(), "serve".into(), broken], vec![], vec!["throng".into(), "--x\ny".into()]]
    {
        let Err(Stop::Usage(line)) = parse(args.clone()) else { panic!("{args:?}") };
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn help_teaches_every_flag() {
    fn check<C: Settings>() {
        let Err(Stop::Shown(help)) = run(&format!("throng {} --help", C::COMMAND)) else { panic!("no help") };
        for key in C::keys() {
            let Some(flag) = key.flag else { continue };
            assert!(help.contains(&format!("--{flag}")) && help.contains(&key.variable()), "{}", key.name);
        }
        assert!(help.contains("\nExamples:\n") && help.contains("SIGTERM drains"), "{help}");
    }
    check::<Config>();
    check::<BalanceConfig>();
    let Err(Stop::Shown(version)) = run("throng --version") else { panic!("no version") };
    assert_eq!(version, format!("throng {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn examples_are_commands_that_parse() {
    for examples in [serve::EXAMPLES, balance::EXAMPLES] {
        let lines = examples.lines().filter_map(|line| line.strip_prefix("  "));
        for line in lines.filter(|line| !line.starts_with(' ')) {
            let command = &line[line.find("throng ").expect("a command")..];
            let command = command.split(" > ").next().unwrap_or_default();
            assert!(run(command).is_ok(), "{line}: {:?}", run(command));
        }
    }
}
