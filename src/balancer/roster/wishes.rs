//! Which backends there are to be.
//!
//! Owns: [`Wishes`], what each origin lists and what names were last found to
//! stand for, and its product, the list of [`Wanted`] addresses. Never: which
//! backends there are.
//!
//! The configuration goes before the file, that before DNS, that before what
//! operators add at run time: of several that want one address the first has it.
//! Of a name that stands for addresses of both families only the IPv4 ones are
//! used, so that a backend with one of each is not two.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::records::Origin;
use super::spec::{self, Spec};

/// Backends there can be.
pub const BACKENDS_MAX: usize = 1000;

/// A backend there is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) origin: Origin,
    pub(super) name: String,
    /// `Err`: why it is not known.
    pub(super) address: Result<SocketAddr, String>,
    pub(super) weight: u32,
    pub(super) max_connections: Option<u32>,
}

/// What is known of a name.
#[derive(Clone, Debug, Default)]
struct Answer {
    addresses: Vec<IpAddr>,
    error: Option<String>,
}

/// What came of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    Same,
    /// The name stands for other addresses.
    Changed { addresses: Vec<IpAddr>, first: bool },
    /// It cannot be resolved any more.
    Failed,
    /// It can be resolved again, to what it was.
    Recovered,
}

#[derive(Debug, Default)]
pub(super) struct Wishes {
    api: Vec<Spec>,
    flags: Vec<Spec>,
    file: Vec<Spec>,
    dns: Option<(String, u16)>,
    answers: BTreeMap<String, Answer>,
    /// Names an operator removed although they are listed.
    removed: BTreeSet<String>,
}

impl Wishes {
    /// What this origin, which is not DNS, lists from now on.
    pub(super) fn list(&mut self, origin: Origin, specs: Vec<Spec>) {
        match origin {
            Origin::Api => self.api = specs,
            Origin::Flag => self.flags = specs,
            Origin::File => self.file = specs,
            Origin::Dns => debug_assert!(specs.is_empty(), "DNS lists no specs"),
        }
    }

    /// The name whose addresses are backends from now on.
    pub(super) fn follow(&mut self, dns: Option<(String, u16)>) {
        self.dns = dns;
    }

    /// An operator's wish for another one.
    pub(super) fn add(&mut self, spec: Spec) {
        self.removed.remove(&spec.name());
        self.api.push(spec);
    }

    /// An operator's wish not to have it, although it may be listed.
    pub(super) fn remove(&mut self, name: &str) {
        self.api.retain(|spec| spec.name() != name);
        self.removed.insert(name.to_owned());
    }

    /// The names that are to be resolved, again and again.
    pub(super) fn hosts(&self) -> BTreeSet<&str> {
        let named = self.specs().filter(|spec| spec.literal().is_none()).map(|spec| &*spec.host);
        let dns = self.dns.iter().map(|(host, _)| &**host).filter(|host| host.parse::<IpAddr>().is_err());
        named.chain(dns).collect()
    }

    /// What a name stands for. A failure changes nothing of what is known.
    pub(super) fn resolved(&mut self, host: &str, answer: Result<Vec<IpAddr>, String>) -> News {
        let known = self.answers.entry(host.to_owned()).or_default();
        let addresses = match answer {
            Ok(addresses) if !addresses.is_empty() => one_family(addresses),
            Ok(_) => return known.failed("it has no address".to_owned()),
            Err(error) => return known.failed(error),
        };
        let failed = known.error.take().is_some();
        let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
        let same = set(&known.addresses) == set(&addresses);
        let first = known.addresses.is_empty();
        known.addresses.clone_from(&addresses);
        match same {
            true if failed => News::Recovered,
            true => News::Same,
            false => News::Changed { addresses, first },
        }
    }

    /// The backends there are to be, each address once, at most [`BACKENDS_MAX`].
    /// `current` tells where the backend of that name is now: one of several
    /// addresses is kept as long as the name stands for it.
    pub(super) fn wanted(&mut self, current: impl Fn(&str) -> Vec<SocketAddr>) -> Vec<Wanted> {
        self.forget();
        let single = |(origin, spec)| self.single(origin, spec, &current);
        let mut names = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        let mut wanted: Vec<_> = self.listed().map(single).collect();
        wanted.extend(self.dns_wanted());
        wanted.extend(self.added().map(single));
        wanted.retain(|wanted| !self.removed.contains(&wanted.name));
        wanted.retain(|wanted| match wanted.address {
            Ok(address) => addresses.insert(address) && names.insert(wanted.name.clone()),
            Err(_) => names.insert(wanted.name.clone()),
        });
        wanted.truncate(BACKENDS_MAX);
        wanted
    }

    fn listed(&self) -> impl Iterator<Item = (Origin, &Spec)> {
        let flags = self.flags.iter().map(|spec| (Origin::Flag, spec));
        flags.chain(self.file.iter().map(|spec| (Origin::File, spec)))
    }

    fn added(&self) -> impl Iterator<Item = (Origin, &Spec)> {
        self.api.iter().map(|spec| (Origin::Api, spec))
    }

    fn specs(&self) -> impl Iterator<Item = &Spec> {
        self.listed().chain(self.added()).map(|(_, spec)| spec)
    }

    fn single(&self, origin: Origin, spec: &Spec, current: impl Fn(&str) -> Vec<SocketAddr>) -> Wanted {
        let name = spec.name();
        let kept = current(&name)
            .into_iter()
            .find(|at| self.addresses(&spec.host).is_ok_and(|known| known.contains(&at.ip())));
        let address = kept.map_or_else(|| self.address(spec), Ok);
        Wanted { origin, name, address, weight: spec.weight, max_connections: spec.max_connections }
    }

    /// Where it is, or why that is not known.
    pub(super) fn address(&self, spec: &Spec) -> Result<SocketAddr, String> {
        let address = match spec.literal() {
            Some(address) => address,
            None => self.addresses(&spec.host)?[0],
        };
        Ok(SocketAddr::new(address, spec.port))
    }

    fn dns_wanted(&self) -> Vec<Wanted> {
        let Some((host, port)) = &self.dns else { return Vec::new() };
        let of =
            |name, address| Wanted { origin: Origin::Dns, name, address, weight: 1, max_connections: None };
        let known = match host.parse::<IpAddr>() {
            Ok(literal) => Ok(vec![literal]),
            Err(_) => self.addresses(host).map(<[IpAddr]>::to_vec),
        };
        match known {
            Err(why) => vec![of(spec::name(host, *port), Err(why))],
            Ok(addresses) => {
                let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, *port));
                addresses.map(|address| of(address.to_string(), Ok(address))).collect()
            }
        }
    }

    /// At least one address.
    fn addresses(&self, host: &str) -> Result<&[IpAddr], String> {
        let unknown = || "its name is being resolved".to_owned();
        let answer = self.answers.get(host).ok_or_else(unknown)?;
        match answer.addresses.is_empty() {
            false => Ok(&answer.addresses),
            true => Err(answer
                .error
                .clone()
                .map_or_else(unknown, |error| format!("it cannot be resolved: {error}"))),
        }
    }

    /// Forgets answers nobody asks for and removals of what nobody lists.
    fn forget(&mut self) {
        let hosts: BTreeSet<String> = self.hosts().into_iter().map(str::to_owned).collect();
        self.answers.retain(|host, _| hosts.contains(host));
        let mut listed: BTreeSet<String> = self.specs().map(Spec::name).collect();
        listed.extend(self.dns_wanted().into_iter().map(|wanted| wanted.name));
        self.removed.retain(|name| listed.contains(name));
    }
}

impl Answer {
    fn failed(&mut self, error: String) -> News {
        let news = if self.error.is_none() { News::Failed } else { News::Same };
        self.error = Some(error);
        news
    }
}

fn one_family(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let any_v4 = addresses.iter().any(IpAddr::is_ipv4);
    let mut seen = BTreeSet::new();
    addresses.into_iter().filter(|ip| (ip.is_ipv4() || !any_v4) && seen.insert(*ip)).collect()
}
