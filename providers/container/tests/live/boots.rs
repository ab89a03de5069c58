//! A machine boots, and ends, in every way.

use libtest_mimic::Trial;
use posada_container::Ended;

use crate::rig::Machine;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("boots_without_a_failed_unit_and_halts", boots)]
}

async fn boots() {
    let machine = Machine::new("web");
    let live = machine.start().await.unwrap();
    assert_eq!(live.boot(), "running", "{}", live.out("systemctl --failed; systemctl list-jobs"));
    eprintln!("{}", live.out("systemd-analyze; systemd-analyze blame | head -20; systemd-analyze critical-chain; cat /proc/uptime; true journalctl -b --no-pager -o short-monotonic | head -150"));
    assert_eq!(live.out("hostname"), "web");
    live.keeper.ask_to_stop().unwrap();
    assert_eq!(live.end().await, Ended::Halted);
}
