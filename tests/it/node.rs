//! A node as a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::socket::Socket;
use crate::web::{Response, Web};

/// How long anything may take before its test has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks at a condition that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Flags of a node that is to disturb nobody, unless they are given otherwise.
const USUAL: [(&str, &str); 3] = [("--port", "0"), ("--ws-port", "off"), ("--bind", "127.0.0.1")];

/// The environment that would change what a node does, beside `THRONG_*`.
const VARIABLES: [&str; 10] = [
    "PORT",
    "NODE_ID",
    "SERVICE_NAME",
    "POD_NAME",
    "POD_NAMESPACE",
    "NODE_NAME",
    "NOTIFY_SOCKET",
    "REDIS_URL",
    "REDIS_HOST",
    "REDIS_PORT",
];

/// How a process is to be started.
pub(crate) struct Launch {
    args: Vec<String>,
    environment: Vec<(String, String)>,
    descriptors_max: Option<u32>,
    wrapper: Vec<String>,
}

impl Launch {
    /// `throng serve` with `args`, on the loopback and free ports.
    pub(crate) fn serve(args: &[&str]) -> Self {
        let mut launch = Launch::bare(&["serve"]);
        for (flag, value) in USUAL {
            if !args.contains(&flag) {
                launch.push(&[flag, value]);
            }
        }
        launch.push(args);
        launch
    }

    /// `throng` with `args` and nothing else.
    pub(crate) fn bare(args: &[&str]) -> Self {
        let mut launch =
            Launch { args: Vec::new(), environment: Vec::new(), descriptors_max: None, wrapper: Vec::new() };
        launch.push(args);
        launch
    }

    fn push(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    /// With a variable in its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a limit on its open files.
    pub(crate) fn descriptors(mut self, max: u32) -> Self {
        self.descriptors_max = Some(max);
        self
    }

    /// On this address instead of the loopback.
    #[allow(dead_code, reason = "for the tests of a cluster")]
    pub(crate) fn bound_to(mut self, address: &str) -> Self {
        let flag = self.args.iter().position(|arg| arg == "--bind").unwrap();
        address.clone_into(&mut self.args[flag + 1]);
        self
    }

    /// By a program that replaces itself with the one it is given.
    #[allow(dead_code, reason = "for the tests of a cluster")]
    pub(crate) fn within(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_throng");
        let mut command = match self.descriptors_max {
            None if self.wrapper.is_empty() => Command::new(program),
            None => {
                let mut wrapper = Command::new(&self.wrapper[0]);
                wrapper.args(&self.wrapper[1..]).arg(program);
                wrapper
            }
            Some(max) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!(r#"ulimit -n {max} && exec "$0" "$@""#), program]);
                shell
            }
        };
        for (name, _) in std::env::vars_os() {
            let is_ours = name.to_string_lossy().starts_with("THRONG_");
            if is_ours || VARIABLES.iter().any(|variable| name == *variable) {
                command.env_remove(name);
            }
        }
        command.args(&self.args).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(&self) -> Process {
        let mut child = self.command().spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Process { child, stdout, stderr }
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(&self) -> Node {
        let process = self.spawn();
        let Some(ready) = process.stdout_line() else {
            panic!("{:?} is not ready: {:#?}", self.args, process.rest_of_stderr());
        };
        let field = |name: &str| {
            let start = format!("{name}=");
            let value = ready.split(' ').find_map(|word| word.strip_prefix(&start));
            value.unwrap_or_else(|| panic!("no {name} in {ready:?}")).to_owned()
        };
        assert!(ready.starts_with("throng ready "), "{ready}");
        assert_eq!(field("pid"), process.pid().to_string());
        let (http, ws) = (field("http").parse().unwrap(), field("ws").parse().ok());
        Node { http, ws, id: field("node"), process }
    }
}

/// The lines of a stream, read by a thread so that the child never blocks on it.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A child, killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line on stdout; `None` when it was closed.
    pub(crate) fn stdout_line(&self) -> Option<String> {
        match self.stdout.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing on stdout in time"),
        }
    }

    /// Waits for a line on stderr that contains `text`.
    pub(crate) fn log_line(&self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.stderr.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("no {text:?} on stderr: {error}"),
            }
        }
    }

    /// Waits for the end of stderr: what had not been asked for.
    pub(crate) fn rest_of_stderr(&self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Ok(line) = self.stderr.recv_timeout(DEADLINE) {
            rest.push(line);
        }
        rest
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, number: i32) {
        // SAFETY: the call takes no pointers. The child has not been waited
        // for, so the number still names it.
        let sent = unsafe { libc::kill(self.pid().cast_signed(), number) };
        assert_eq!(sent, 0);
    }

    /// Whether it ends within `span`.
    pub(crate) fn ends_within(&self, span: Duration) -> bool {
        self.stdout.recv_timeout(span) == Err(RecvTimeoutError::Disconnected)
    }

    /// Waits until it has ended by itself. Its end closes its stdout, which
    /// can be waited for with a deadline.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        while self.stdout_line().is_some() {}
        self.child.wait().unwrap()
    }

    /// Processor time it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        // Fields 14 and 15 of proc_pid_stat(5), of which two stand before.
        let ticks = |field: usize| after_name.split_ascii_whitespace().nth(field - 3).unwrap();
        let sum: u64 = [14, 15].map(|field| ticks(field).parse::<u64>().unwrap()).iter().sum();
        // The kernel shows hundredths of a second, whatever it counts in.
        Duration::from_millis(sum * 10)
    }

    /// Memory it has resident.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that serves.
pub(crate) struct Node {
    pub(crate) http: SocketAddr,
    pub(crate) ws: Option<SocketAddr>,
    pub(crate) id: String,
    pub(crate) process: Process,
}

impl Node {
    /// `throng serve` with `args`, on the loopback and free ports.
    pub(crate) fn start(args: &[&str]) -> Self {
        Launch::serve(args).start()
    }

    /// A connection that speaks HTTP.
    pub(crate) fn web(&self) -> Web {
        Web::connect(self.http)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.web().request("GET", path, "", "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Response {
        self.web().request("POST", path, "", body)
    }

    /// The JSON at `path`, which must be there.
    pub(crate) fn json(&self, path: &str) -> Value {
        let response = self.get(path);
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    /// A WebSocket on `target` of the HTTP port.
    pub(crate) fn socket(&self, target: &str) -> Socket {
        Socket::connect(self.http, target, "")
    }

    /// A user's WebSocket, welcomed.
    pub(crate) fn user(&self, user: &str) -> Socket {
        let mut socket = self.socket(&format!("/ws?user_id={user}"));
        assert_eq!(socket.json()["type"], "welcome");
        socket
    }

    /// The value of a sample in `/metrics`, named with its labels.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        self.metrics(&[sample])[0]
    }

    /// The values of several samples at one time.
    pub(crate) fn metrics<const N: usize>(&self, samples: &[&str; N]) -> [u64; N] {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        samples.map(|sample| {
            let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
            let value = value.unwrap_or_else(|| panic!("no {sample} in {text}"));
            value.parse::<f64>().unwrap() as u64
        })
    }

    /// Waits until so many WebSockets are open.
    pub(crate) fn wait_for_connections(&self, count: u64) {
        eventually(&format!("{count} connections"), || self.json("/health")["connections"] == count);
    }
}

/// Waits until `is_so`.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(LOOK_AGAIN);
    }
}
