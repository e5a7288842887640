//! Stops of a target's workers, in turn.

use super::compare::{Stop, items};
use super::matrix::{self, Matter, Work};
use super::tally::Tally;
use crate::harness::host::Host;
use crate::harness::load::Load;
use crate::harness::process;
use crate::harness::target::Target;
use crate::harness::wait::until;
use crate::oracle::build::View;
use crate::oracle::heap::Heap;
use crate::oracle::hosted::{Hosted, Library};
use crate::oracle::native::{Code, Files};
use crate::oracle::stack::{Item, Oracle, Proof, Stack};
use crate::oracle::tracee::{Registers, Tracee, reg};
use anyhow::{Context, Result};
use std::ops::Range;
use std::time::Duration;
use upprof_memory::{Live, Memory as _};

/// Stops of idle workers.
const IDLE_STOPS: usize = 50;

/// One process under observation.
struct Observed {
    pid: u32,
    tid: u32,
    tracee: Tracee,
    hosted: Hosted,
    view: View,
    heap: Heap,
    interpreter: Range<u64>,
}

/// What is observed.
enum Subject {
    Nginx(Target),
    Program(Host),
}

/// What keeps it busy, until dropped.
enum Busy<'a> {
    Load { _load: Load },
    Program(&'a mut Host),
}

impl Subject {
    fn start(matter: &Matter) -> Self {
        match matter.host {
            matrix::Host::Nginx => {
                let image = matter.image();
                Self::Nginx(Target::start("accuracy", &["--env", "TIMER_TICK=off", &image]))
            }
            matrix::Host::Program => Self::Program(Host::start()),
        }
    }

    /// Its processes that run Lua, each with the threads that do.
    fn threads(&self) -> Vec<(u32, u32)> {
        match self {
            Self::Nginx(target) => target.workers().into_iter().map(|pid| (pid, pid)).collect(),
            Self::Program(host) => host.threads().iter().map(|tid| (host.pid(), *tid)).collect(),
        }
    }

    fn work(&mut self, work: Work) -> Busy<'_> {
        match self {
            Self::Nginx(target) => {
                let load = match work {
                    Work::Stream => Load::stream(target),
                    _ => Load::on_all_workers(target, work.paths()),
                };
                let busy = Busy::Load { _load: load };
                target.burn(0.5);
                busy
            }
            Self::Program(host) => {
                host.work(work.name());
                until("the host to work", || (process::cpu_seconds(host.pid()) > 0.5).then_some(()));
                Busy::Program(host)
            }
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Self::Program(host) = self {
            host.work("idle");
        }
    }
}

/// The workers of a target under observation.
pub struct Observatory {
    all: Workers,
    // After the workers: who is traced is let go first.
    subject: Subject,
}

struct Workers {
    library: Library,
    files: Files,
    workers: Vec<Observed>,
    random: u64,
}

impl Observatory {
    /// Starts a target, and attaches to its workers.
    ///
    /// # Errors
    /// What keeps it from being observed.
    pub fn of(matter: &Matter) -> Result<Self> {
        let subject = Subject::start(matter);
        let (mut library, mut files) = (Library::default(), Files::default());
        let mut workers = Vec::new();
        for (pid, tid) in subject.threads() {
            let hosted = library.describe(pid)?;
            let interpreter = Code::of(pid, &mut files)?.interpreter().context("no LuaJIT in it")?;
            let view = View { memory: Live::new(pid), build: matter.build };
            let tracee = Tracee::attach(tid)?;
            workers.push(Observed { pid, tid, tracee, hosted, view, heap: Heap::default(), interpreter });
        }
        let random = 0x9e37_79b9_7f4a_7c15;
        Ok(Self { all: Workers { library, files, workers, random }, subject })
    }

    /// Stops the workers at random moments under this load, in turn, until so many stops had Lua on the stack
    /// (or five times as many are over).
    ///
    /// # Errors
    /// What keeps them from being observed.
    pub fn under(&mut self, work: Work, stops: usize) -> Result<Tally> {
        let _busy = self.subject.work(work);
        let mut tally = Tally::default();
        while tally.lua < stops && tally.stops < 5 * stops {
            self.all.random = self.all.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(Duration::from_micros((self.all.random >> 33) % 1500));
            let turn = tally.stops;
            self.all.stop(turn, &mut tally)?;
        }
        Ok(tally)
    }

    /// Lua frames that the walkers see in workers that have worked, and wait now.
    ///
    /// # Errors
    /// What keeps them from being observed.
    pub fn idle(&mut self) -> Result<usize> {
        self.all.idle()
    }
}

impl Workers {
    fn idle(&mut self) -> Result<usize> {
        let (mut lua, mut stops) = (0, 0);
        while stops < IDLE_STOPS {
            let turn = stops % self.workers.len();
            let worker = &mut self.workers[turn];
            until("a worker to wait", || process::waits(worker.tid).then_some(()));
            let registers = worker.tracee.stop()?;
            let code = Code::of(worker.pid, &mut self.files)?;
            let oracle = worker.look(&code, &registers);
            // One that waits in C that Lua called, or went on meanwhile, is not idle.
            if oracle.root && oracle.leaf.is_none() {
                let walked = self.library.walk(&worker.hosted, &registers);
                let seen = items(&walked, &worker.view, None, &mut worker.heap);
                lua += seen.iter().filter(|i| !matches!(i, Item::Native(_) | Item::Lost)).count();
                stops += 1;
            }
            worker.tracee.run()?;
        }
        Ok(lua)
    }

    /// Stops a worker, and compares what both make of it.
    fn stop(&mut self, turn: usize, tally: &mut Tally) -> Result<()> {
        let turn = turn % self.workers.len();
        let worker = &mut self.workers[turn];
        let registers = worker.tracee.stop()?;
        let walked = self.library.walk(&worker.hosted, &registers);
        let code = Code::of(worker.pid, &mut self.files)?;
        let seen = worker.look(&code, &registers);
        let items = items(&walked, &worker.view, seen.g, &mut worker.heap);
        let unsure = seen.undecided.is_some() || seen.leaf.is_some_and(|l| l.proof == Proof::None);
        let ip = registers[reg::RIP].unwrap_or_default();
        let settled = match unsure && worker.interpreter.contains(&ip) {
            true => worker.settle(&code)?,
            false => None,
        };
        let (view, interpreter) = (worker.view, worker.interpreter.clone());
        let stop = Stop {
            registers: &registers,
            seen: &seen,
            settled: settled.as_ref(),
            place: code.place(ip),
            walked: &walked,
            items,
            view: &view,
            interpreter: &interpreter,
        };
        stop.compare(&mut worker.heap, tally);
        worker.tracee.run()
    }
}

impl Observed {
    fn look(&mut self, code: &Code, registers: &Registers) -> Stack {
        let interpreter = self.interpreter.clone();
        Oracle { view: self.view, code, interpreter, heap: &mut self.heap }.stack(registers)
    }

    /// Goes on, instruction by instruction, to the next one of bytecode or out of the interpreter: there BASE
    /// and PC agree again.
    fn settle(&mut self, code: &Code) -> Result<Option<Stack>> {
        const MOST: usize = 2000;
        let mut inside = true;
        for _ in 0..MOST {
            let registers = self.tracee.step()?;
            let ip = registers[reg::RIP].unwrap_or_default();
            let was_inside = std::mem::replace(&mut inside, self.interpreter.contains(&ip));
            if (inside && self.begins_bytecode(&registers, ip)) || (was_inside && !inside) {
                let seen = self.look(code, &registers);
                let certain = seen.leaf.is_none_or(|leaf| leaf.proof != Proof::None);
                if seen.undecided.is_none() && certain {
                    return Ok(Some(seen));
                }
            }
        }
        Ok(None)
    }

    /// Whether `ip` is in the table by which bytecode is dispatched: r14 holds its address.
    fn begins_bytecode(&self, registers: &Registers, ip: u64) -> bool {
        const OPCODES: usize = 256;
        let Some(table) = registers[reg::R14] else { return false };
        let words = self.view.memory.bytes(table, OPCODES * 8, OPCODES * 8).unwrap_or_default();
        words.chunks_exact(8).any(|word| word == ip.to_le_bytes())
    }
}
