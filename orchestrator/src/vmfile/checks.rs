//! What can only be seen with all machines side by side: collisions, names that lead nowhere, cycles.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use posada_provider_api::{Forward, MachineName, Network, PrivateNetwork, Protocol};

use super::decode::{Layer, Located, subnet};
use super::fault::Collector;
use super::suggest::did_you_mean;

/// A machine of the file, not yet known to be faultless.
pub(super) type Draft = (Located<MachineName>, Layer);

/// Notes all that does not fit together.
pub(super) fn check(faults: &mut Collector, machines: &[Draft], single: bool) {
    for (name, layer) in machines {
        if !layer.box_given {
            let whose = if single { "the machine".to_owned() } else { format!("`{}`", name.value) };
            faults
                .push(&name.span, format!("{whose} has no `box`"))
                .hint("say what it is made of, such as `box: debian/12`");
        }
        targets(faults, layer);
        step_names(faults, layer);
    }
    host_ports(faults, machines);
    private_networks(faults, machines);
    hostnames(faults, machines);
    dependencies(faults, machines, single);
}

/// No two folders of a machine are seen at one place.
fn targets(faults: &mut Collector, layer: &Layer) {
    let mut seen: HashMap<_, &Range<usize>> = HashMap::new();
    for folder in &layer.synced_folders {
        if let Some(first) = seen.get(&folder.value.target) {
            let message = format!("two folders are seen at `{}`", folder.value.target.display());
            faults
                .push(&folder.span, message)
                .hint("give one of them another target")
                .related(first, "first here");
        } else {
            seen.insert(&folder.value.target, &folder.span);
        }
    }
}

/// A step's name means one step.
fn step_names(faults: &mut Collector, layer: &Layer) {
    let mut seen: HashMap<&str, &Range<usize>> = HashMap::new();
    for step in &layer.provision {
        let Some(name) = step.value.name.as_deref() else { continue };
        if let Some(first) = seen.get(name) {
            faults
                .push(&step.span, format!("two steps of one machine are called `{name}`"))
                .hint("give one of them another name")
                .related(first, "first here");
        } else {
            seen.insert(name, &step.span);
        }
    }
}

/// A host port that is listened on.
struct Listener<'a> {
    machine: &'a MachineName,
    address: IpAddr,
    auto_correct: bool,
    span: &'a Range<usize>,
}

/// No host port is forwarded twice, unless one of the two may move.
fn host_ports(faults: &mut Collector, machines: &[Draft]) {
    let mut seen: HashMap<(Protocol, u16), Vec<Listener<'_>>> = HashMap::new();
    for (name, layer) in machines {
        for (forward, span) in forwards(layer) {
            if forward.host == 0 {
                continue;
            }
            let new = Listener {
                machine: &name.value,
                address: forward.host_ip,
                auto_correct: forward.auto_correct,
                span,
            };
            let listeners = seen.entry((forward.protocol, forward.host)).or_default();
            let clash = listeners
                .iter()
                .find(|old| overlap(old.address, new.address) && !(old.auto_correct || new.auto_correct));
            if let Some(old) = clash {
                let whose = if old.machine == new.machine {
                    format!("twice for `{}`", new.machine)
                } else {
                    format!("for `{}` and for `{}`", old.machine, new.machine)
                };
                let message = format!("host port {}/{} is forwarded {whose}", forward.host, forward.protocol);
                let noted = faults.push(span, message);
                if old.span == span {
                    noted.hint("a forward at the top level is every machine's: put it under one machine, or write `host: auto`");
                } else {
                    noted
                        .hint("choose another host port, or `auto`, or set `auto_correct: true`")
                        .related(old.span, "first here");
                }
            }
            listeners.push(new);
        }
    }
}

/// A machine's forwards, and the one that `ssh.port` is.
fn forwards(layer: &Layer) -> impl Iterator<Item = (Forward, &Range<usize>)> {
    let networks = layer.networks.iter().filter_map(|network| match &network.value {
        Network::Forward(forward) => Some((forward.clone(), &network.span)),
        _ => None,
    });
    networks.chain(layer.ssh.port.as_ref().map(|port| (ssh_forward(port.value), &port.span)))
}

/// The forward that `ssh.port` stands for.
pub(super) fn ssh_forward(port: u16) -> Forward {
    Forward {
        guest: 22,
        host: port,
        host_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        protocol: Protocol::Tcp,
        auto_correct: false,
        name: Some("ssh".to_owned()),
    }
}

/// Whether sockets on both addresses get in each other's way.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let all = |ip: IpAddr| ip.is_unspecified();
    a == b
        || (a.is_ipv4() == b.is_ipv4() && (all(a) || all(b)))
        || [a, b].contains(&IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED))
}

/// On a private network every address is one machine's, and all are of one subnet.
fn private_networks(faults: &mut Collector, machines: &[Draft]) {
    struct Member<'a> {
        machine: &'a MachineName,
        network: &'a PrivateNetwork,
        ip: Ipv4Addr,
        span: &'a Range<usize>,
    }
    let mut seen: HashMap<&str, Vec<Member<'_>>> = HashMap::new();
    for (name, layer) in machines {
        for network in &layer.networks {
            let Network::Private(private) = &network.value else { continue };
            let Some(ip) = private.ip else { continue };
            let new = Member { machine: &name.value, network: private, ip, span: &network.span };
            let members = seen.entry(&private.name).or_default();
            if let Some(old) = members.iter().find(|old| old.ip == ip) {
                let whose = if old.machine == new.machine {
                    format!("twice to `{}`", new.machine)
                } else {
                    format!("to `{}` and to `{}`", old.machine, new.machine)
                };
                let noted = faults.push(new.span, format!("{ip} is given {whose}"));
                if old.span == new.span {
                    noted.hint("a network at the top level is every machine's: leave `ip` out, or put it under one machine");
                } else {
                    noted.hint("give each machine an address of its own").related(old.span, "first here");
                }
            } else if let Some(old) = members.first().filter(|old| {
                old.network.prefix != private.prefix
                    || subnet(old.ip, private.prefix) != subnet(ip, private.prefix)
            }) {
                let first = format!("{}/{}", subnet(old.ip, old.network.prefix), old.network.prefix);
                let second = format!("{}/{}", subnet(ip, private.prefix), private.prefix);
                faults
                    .push(
                        new.span,
                        format!("the network `{}` cannot be both {first} and {second}", private.name),
                    )
                    .hint("give its machines addresses of one subnet, or give one network another name")
                    .related(old.span, "first here");
            }
            members.push(new);
        }
    }
}

/// No two machines call themselves the same.
fn hostnames(faults: &mut Collector, machines: &[Draft]) {
    let mut seen: HashMap<String, &Located<MachineName>> = HashMap::new();
    for (name, layer) in machines {
        let (hostname, span) = match &layer.hostname {
            Some(hostname) => (hostname.value.as_str(), &hostname.span),
            None => (name.value.as_str(), &name.span),
        };
        if let Some(first) = seen.get(&hostname.to_lowercase()) {
            faults
                .push(
                    span,
                    format!("`{}` and `{}` have the same host name, `{hostname}`", first.value, name.value),
                )
                .hint("give each machine a `hostname` of its own, or none");
        } else {
            seen.insert(hostname.to_lowercase(), name);
        }
    }
}

/// `depends_on` names machines of the file, and leads nowhere back to itself.
fn dependencies(faults: &mut Collector, machines: &[Draft], single: bool) {
    if single {
        return;
    }
    let names: Vec<&str> = machines.iter().map(|(name, _)| name.value.as_str()).collect();
    let index: HashMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    for (name, layer) in machines {
        for dependency in layer.depends_on.iter().filter(|on| !index.contains_key(on.value.as_str())) {
            let hint = if faults.many() {
                None
            } else {
                let others: Vec<&str> =
                    names.iter().copied().filter(|other| *other != name.value.as_str()).collect();
                did_you_mean(&dependency.value, &others, "the others are")
            };
            let message = format!("there is no machine `{}`", super::node::shorten(&dependency.value));
            faults.push(&dependency.span, message).maybe_hint(hint);
        }
    }
    let edges: Vec<Vec<(usize, &Range<usize>)>> = machines
        .iter()
        .map(|(_, layer)| {
            let known = |on| -> Option<(usize, &Range<usize>)> {
                let on: &Located<String> = on;
                Some((*index.get(on.value.as_str())?, &on.span))
            };
            layer.depends_on.iter().filter_map(known).collect()
        })
        .collect();
    for cycle in cycles(&edges) {
        let path: Vec<&str> = cycle.iter().map(|(machine, _)| names[*machine]).collect();
        let message = if let [only] = path.as_slice() {
            format!("`{only}` depends on itself")
        } else {
            format!("these machines wait for each other: {} → {}", path.join(" → "), path[0])
        };
        let span = cycle[cycle.len() - 1].1;
        faults.push(span, message).hint("remove one of these dependencies");
    }
}

/// The cycles of a graph, each found once, as its nodes with the edge that leads on from each.
fn cycles<'a>(edges: &[Vec<(usize, &'a Range<usize>)>]) -> Vec<Vec<(usize, &'a Range<usize>)>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    let mut found = Vec::new();
    for start in 0..edges.len() {
        if marks[start] != Mark::New {
            continue;
        }
        // Each step of the path: a node, and which of its edges comes next.
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        marks[start] = Mark::Open;
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            let Some((to, _)) = edges[node].get(*next) else {
                marks[node] = Mark::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match marks[*to] {
                Mark::New => {
                    marks[*to] = Mark::Open;
                    path.push((*to, 0));
                }
                Mark::Open => {
                    let from = path.iter().position(|(node, _)| node == to).unwrap_or(0);
                    found.push(
                        path[from..].iter().map(|(node, next)| (*node, edges[*node][next - 1].1)).collect(),
                    );
                }
                Mark::Done => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cycle_is_found_once_and_walks_its_edges() {
        let span = 0..0;
        let graph = |edges: &[&[usize]]| -> Vec<Vec<usize>> {
            let edges: Vec<Vec<_>> =
                edges.iter().map(|to| to.iter().map(|to| (*to, &span)).collect()).collect();
            cycles(&edges)
                .into_iter()
                .map(|cycle| cycle.into_iter().map(|(node, _)| node).collect())
                .collect()
        };
        assert!(graph(&[&[1, 2], &[2], &[]]).is_empty());
        assert_eq!(graph(&[&[0]]), [[0]]);
        assert_eq!(graph(&[&[1], &[2], &[1]]), [[1, 2]]);
        assert_eq!(graph(&[&[1], &[0], &[3], &[2]]), [[0, 1], [2, 3]]);
        let long: Vec<Vec<usize>> = (0..20_000).map(|at| vec![(at + 1) % 20_000]).collect();
        let long: Vec<&[usize]> = long.iter().map(Vec::as_slice).collect();
        assert_eq!(graph(&long)[0].len(), 20_000);
    }

    #[test]
    fn addresses_overlap_where_one_is_all() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(overlap(ip("0.0.0.0"), ip("127.0.0.1")));
        assert!(overlap(ip("::"), ip("127.0.0.1")));
        assert!(overlap(ip("::1"), ip("::1")));
        assert!(!overlap(ip("127.0.0.1"), ip("127.0.0.2")));
        assert!(!overlap(ip("0.0.0.0"), ip("::1")));
    }
}
