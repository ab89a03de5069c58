//! Turns what the orchestrator tells into lines for people, or into JSON lines.

use std::fmt::Write as _;
use std::time::Duration;

use posada_orchestrator::{Event, EventSink};
use posada_provider_api::ForwardedPort;

use super::sanitize::sanitize;
use super::style::{self, Palette};
use super::{Printer, Verbosity};

impl EventSink for Printer {
    fn event(&self, event: Event) {
        if self.is_json() {
            self.json(&event);
        } else {
            self.narrate(&event);
        }
    }
}

impl Printer {
    fn narrate(&self, event: &Event) {
        let screen = self.screen();
        let palette = self.err_palette();
        match event {
            Event::Phase { machine, phase } => {
                let name = screen.name(machine.as_str());
                screen.begin(machine.as_str(), &format!("{name}  {phase}"));
                if self.verbosity() == Verbosity::Verbose {
                    self.note(&palette.faint(&format!("· {machine}  {phase}")));
                }
            }
            Event::Done { machine, what, took_ms } => {
                screen.end(machine.as_str());
                self.finished(machine.as_str(), what, *took_ms);
            }
            Event::Progress { machine, subject, done, total } => {
                let name = machine.as_ref().map(|name| screen.name(name.as_str()) + "  ").unwrap_or_default();
                let key = machine.as_ref().map_or(subject.as_str(), |name| name.as_str());
                if *total == Some(*done) {
                    screen.end(key);
                } else {
                    screen.advance(key, &format!("{name}{subject}"), *done, *total);
                }
            }
            Event::Waiting { machine, pid, command } => {
                let text = waiting_for(*pid, command.as_deref());
                let name = screen.name(machine.as_str());
                screen.begin(machine.as_str(), &format!("{name}  waiting for {text}"));
                self.note(&format!("{} {name}  waits for {text} to finish", palette.faint("·")));
            }
            Event::StepStarted { machine, index, total, step, reason } => {
                let name = screen.name(machine.as_str());
                let why =
                    if reason == "new" { String::new() } else { palette.faint(&format!(" ({reason})")) };
                let step = palette.strong(step);
                screen.begin(machine.as_str(), &format!("{name}  provisioning {index}/{total}: {step}"));
                self.note(&format!("  {name}  provisioning {index}/{total}: {step}{why}"));
            }
            Event::StepDone { machine, step, took_ms } => {
                screen.end(machine.as_str());
                self.finished(machine.as_str(), &format!("{step} done"), *took_ms);
            }
            Event::StepSkipped { machine, step, reason } => {
                if self.verbosity() == Verbosity::Verbose {
                    let name = screen.name(machine.as_str());
                    self.note(&palette.faint(&format!("  {name}  {step}: skipped ({reason})")));
                }
            }
            Event::Output { machine, line, .. } => self.machine_line(machine.as_str(), line),
            Event::Console { machine, line } => {
                if self.verbosity() == Verbosity::Verbose {
                    self.machine_line(machine.as_str(), line);
                }
            }
            Event::Warning { machine, message } => match machine {
                Some(machine) => {
                    let name = screen.name(machine.as_str());
                    self.warn(&format!("{name}  {message}"));
                }
                None => self.warn(message),
            },
            Event::Machine { machine, state, took_ms, forwards, message } => {
                screen.end(machine.as_str());
                self.finished(machine.as_str(), &palette.strong(&state.to_string()), *took_ms);
                for port in forwards {
                    let name = screen.name(machine.as_str());
                    self.note(&format!("  {name}  {}", forward(port, palette)));
                }
                if let Some(message) = message {
                    for line in message.trim_end().lines() {
                        self.machine_line(machine.as_str(), line);
                    }
                }
            }
            Event::Failed { machine, message } => {
                screen.end(machine.as_str());
                let name = screen.name(machine.as_str());
                // One machine's error follows at once; of several, it follows when the last has ended.
                let message = message.strip_prefix(&format!("{machine}: ")).unwrap_or(message);
                let what = match message.starts_with("interrupted") {
                    _ if screen.machines() > 1 => message,
                    true => "interrupted",
                    false => "failed",
                };
                self.complain(&format!("{} {name}  {what}", palette.cross()));
            }
        }
    }

    fn finished(&self, machine: &str, what: &str, took_ms: u64) {
        let palette = self.err_palette();
        let took = palette.faint(&style::duration(Duration::from_millis(took_ms)));
        let name = self.screen().name(machine);
        self.note(&format!("{} {name}  {what}  {took}", palette.tick()));
    }

    /// A line that the machine itself said.
    fn machine_line(&self, machine: &str, line: &str) {
        let palette = self.err_palette();
        let name = self.screen().name(machine);
        self.note(&format!("  {name} {} {}", palette.bar(), sanitize(line, palette.colors)));
    }
}

/// Who holds a machine: ``posada up` (process 4711)`.
fn waiting_for(pid: Option<u32>, command: Option<&str>) -> String {
    match (command, pid) {
        (Some(command), Some(pid)) => format!("`{command}` (process {pid})"),
        (Some(command), None) => format!("`{command}`"),
        (None, Some(pid)) => format!("process {pid}"),
        (None, None) => "another posada".to_owned(),
    }
}

/// Where a forward leads: `http://127.0.0.1:8080 → 80`.
#[must_use]
pub fn forward(port: &ForwardedPort, palette: Palette) -> String {
    let asked = &port.asked;
    let address = std::net::SocketAddr::new(asked.host_ip, port.host);
    let arrow = if palette.unicode { "→" } else { "->" };
    let mut text =
        format!("{} {arrow} {}", palette.offer(&format!("{address}/{}", asked.protocol)), asked.guest);
    if let Some(name) = &asked.name {
        let _ = write!(text, " {name}");
    }
    if asked.host != 0 && asked.host != port.host {
        let _ = write!(text, " {}", palette.faint(&format!("({} was taken)", asked.host)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::testing::printer;
    use super::*;
    use posada_provider_api::{Forward, MachineName, MachineState, Protocol};

    fn name(text: &str) -> MachineName {
        MachineName::new(text).unwrap()
    }

    fn http() -> ForwardedPort {
        ForwardedPort {
            asked: Forward {
                guest: 80,
                host: 8080,
                host_ip: [127, 0, 0, 1].into(),
                protocol: Protocol::Tcp,
                auto_correct: true,
                name: Some("web page".to_owned()),
            },
            host: 8081,
        }
    }

    fn story() -> Vec<Event> {
        vec![
            Event::Phase { machine: name("web"), phase: "starting".to_owned() },
            Event::Done { machine: name("web"), what: "ssh ready".to_owned(), took_ms: 413 },
            Event::Waiting { machine: name("db"), pid: Some(7), command: Some("posada up".to_owned()) },
            Event::StepStarted {
                machine: name("web"),
                index: 1,
                total: 2,
                step: "nginx".to_owned(),
                reason: "resumes".to_owned(),
            },
            Event::Output {
                machine: name("web"),
                step: "nginx".to_owned(),
                stream: "stdout",
                line: "\u{1b}]0;evil\u{7}Reading package lists...".to_owned(),
            },
            Event::StepDone { machine: name("web"), step: "nginx".to_owned(), took_ms: 12_000 },
            Event::StepSkipped { machine: name("web"), step: "page".to_owned(), reason: "done".to_owned() },
            Event::Console { machine: name("web"), line: "Welcome".to_owned() },
            Event::Warning { machine: None, message: "the clock is wrong".to_owned() },
            Event::Machine {
                machine: name("web"),
                state: MachineState::Running,
                took_ms: 13_000,
                forwards: vec![http()],
                message: Some("hello\nfrom web".to_owned()),
            },
            Event::Failed { machine: name("db"), message: "the machine did not start".to_owned() },
        ]
    }

    #[test]
    fn people_read_one_line_per_phase() {
        let (printer, out, err) = printer(Format::Text, Verbosity::Normal);
        printer.screen().expect_machines(["web", "db"]);
        for event in story() {
            printer.event(event);
        }
        assert_eq!(out.text(), "");
        assert_eq!(
            err.text(),
            "\
✔ web  ssh ready  0.41s
· db   waits for `posada up` (process 7) to finish
  web  provisioning 1/2: nginx (resumes)
  web │ Reading package lists...
✔ web  nginx done  12.0s
warning: the clock is wrong
✔ web  running  13.0s
  web  127.0.0.1:8081/tcp → 80 web page (8080 was taken)
  web │ hello
  web │ from web
✘ db   the machine did not start
"
        );
    }

    #[test]
    fn verbose_adds_beginnings_consoles_and_skipped_steps() {
        let (printer, _, err) = printer(Format::Text, Verbosity::Verbose);
        for event in story() {
            printer.event(event);
        }
        for line in ["· web  starting\n", "web │ Welcome\n", "web  page: skipped (done)\n"] {
            assert!(err.text().contains(line), "{line} in {}", err.text());
        }
    }

    #[test]
    fn quiet_leaves_warnings_and_failures() {
        let (printer, _, err) = printer(Format::Text, Verbosity::Quiet);
        for event in story() {
            printer.event(event);
        }
        assert_eq!(err.text(), "warning: the clock is wrong\n✘ db   the machine did not start\n");
    }

    #[test]
    fn programs_read_every_event() {
        let (printer, out, err) = printer(Format::Json, Verbosity::Normal);
        let story = story();
        for event in story.clone() {
            printer.event(event);
        }
        assert_eq!(err.text(), "");
        let lines: Vec<serde_json::Value> =
            out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), story.len());
        assert!(lines.iter().all(|line| line["event"].is_string()));
        assert_eq!(lines[1]["took_ms"], 413);
        assert_eq!(lines[9]["forwards"][0]["host"], 8081);
    }
}
