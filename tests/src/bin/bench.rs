//! `./dev bench`: the product's numbers beside their goals, on this machine, on the demo target under
//! its own load. Nothing here fails for being slow: a goal that is missed is printed as such.
//!
//! Needs root, a Docker engine and the demo images; takes about ten minutes. `UPPROF_BIN` names
//! another binary to measure.

use anyhow::{Context, Result};
use std::process::ExitCode;
use std::time::Duration;
use upprof_tests::bench::{
    Capture, Gateway, Looks, Pairs, Row, Spread, Table, Upprof, Verdict, Watch, Watching, answer_load,
};
use upprof_tests::harness::load::{DEMO, Load};
use upprof_tests::harness::target::Target;

/// Enough rounds for a 95 % interval that leaves out the extremes (see `Spread::median_interval`).
const ROUNDS: usize = 9;
const PHASE: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(3);
/// The default window of a capture.
const WINDOW: Duration = Duration::from_secs(30);
const SHORT_WINDOW: Duration = Duration::from_secs(15);
/// Of `inspect --watch 1s`: long enough for what comes less often to come again.
const WATCH: Duration = Duration::from_secs(120);
const CAPTURES: [Watching; 3] = [Watching::Nobody, Watching::Upprof(99), Watching::Upprof(999)];
/// The demo's load collects all garbage in each request: with a large heap that would be all it does.
const GATEWAY: [&str; 4] = ["/phases", "/balancer", "/truth/kept", "/gsub"];
const INSPECTION: [Watching; 2] = [Watching::Nobody, Watching::Inspect];

fn main() -> ExitCode {
    let before = jiffies();
    match run() {
        Ok(table) => {
            println!("{table}");
            println!(
                "{:.1} % of the CPUs' time was stolen by the host while this ran",
                stolen(before, jiffies())
            );
            let falls_short = table.0.iter().filter(|r| r.verdict() == Verdict::FallsShort).count();
            println!("{falls_short} of {} numbers fall short", table.0.len());
            let missing = table.0.iter().any(|r| r.verdict() == Verdict::NotMeasured);
            if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Table> {
    let upprof = Upprof::find()?;
    println!("{}", machine());
    println!("binary: {}\n", upprof.path.display());

    let target = Target::ticking("bench");
    step("warming the target up");
    answer_load(&target, &DEMO, WARM_UP)?;

    step("captures at 99 and 999 Hz");
    // The load begins before the first window does, and goes on after the last.
    let load = Load::on(&target, &DEMO);
    std::thread::sleep(Duration::from_secs(1));
    let slow = upprof.capture(target.name(), 99, WINDOW).context("at 99 Hz")?;
    let fast = upprof.capture(target.name(), 999, SHORT_WINDOW).context("at 999 Hz")?;
    drop(load);

    step(&format!("{ROUNDS} rounds of load without a capture, at 99 Hz and at 999 Hz"));
    let pairs = Pairs::run(&upprof, &target, &CAPTURES, &DEMO, ROUNDS, PHASE)?;
    drop(target);

    let mut rows =
        vec![bpf_row(&slow, 99), bpf_row(&fast, 999), cost_row(&slow, 99, 0.3), cost_row(&fast, 999, 2.5)];
    rows.extend(pair_rows(&pairs));
    rows.extend(time_rows(&slow, &fast));
    let rss = slow.max_rss_bytes.max(fast.max_rss_bytes);
    rows.push(Row::at_most("launcher's largest resident set", 100.0, Some(mega(rss)), "MB"));
    rows.push(Row::at_most("static binary", 15.0, Some(mega(upprof.size()?)), "MB"));
    rows.extend(inspect_rows(&upprof)?);
    Ok(Table(rows))
}

/// CPU time so far in clock ticks: all of it, and what the host gave to others (proc_stat(5), "steal").
fn jiffies() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // Guests' time, behind steal, is part of the first two.
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    (ticks.iter().sum(), ticks.get(7).copied().unwrap_or(0))
}

fn stolen(before: (u64, u64), after: (u64, u64)) -> f64 {
    percent(after.1.saturating_sub(before.1), after.0.saturating_sub(before.0))
}

fn step(what: &str) {
    eprintln!("bench: {what}");
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "kernel {}, {cpus} CPUs{}, load average before: {}",
        read("/proc/sys/kernel/osrelease"),
        model
            .trim_start_matches(['\t', ':', ' '])
            .split('@')
            .next()
            .map_or(String::new(), |m| format!(" ({m})")),
        read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
    )
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn bpf_row(capture: &Capture, hz: u32) -> Row {
    let (native, lua) = capture.depth.mean();
    let per_run = capture.bpf_us_per_run().map_or_else(|| "?".into(), |us| format!("{us:.2}"));
    let samples = capture.counter("samples").unwrap_or(0);
    let complete = capture.counter("stacks_complete").unwrap_or(0);
    Row::at_most(
        format!("BPF time per sample of the target, {hz} Hz"),
        10.0,
        capture.bpf_us_per_sample(),
        "µs",
    )
    .remark(format!(
        "{samples} samples, mean depth {:.1} ({native:.1} native + {lua:.1} Lua), {:.2} % reach the \
             process's entry",
        native + lua,
        percent(complete, samples),
    ))
    .remark(format!("{per_run} µs per run of the program (run_time_ns / run_cnt), other processes' included"))
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64 * 100.0
}

fn cost_row(capture: &Capture, hz: u32, goal: f64) -> Row {
    let cost = capture.cost_percent();
    let row = Row::at_most(
        format!("whole cost at {hz} Hz, of the workers' CPU"),
        goal,
        cost.map(|(b, l)| b + l),
        "%",
    );
    let Some((bpf, launcher)) = cost else { return row };
    row.remark(format!(
        "BPF {bpf:.3} % + launcher in the window {launcher:.3} %; {:.1} s of workers' CPU in a window of {:.0} s",
        capture.worker_seconds().unwrap_or(0.0),
        capture.manifest.capture.duration_ns as f64 / 1e9,
    ))
}

fn pair_rows(pairs: &Pairs) -> Vec<Row> {
    let with = |hz: u32| {
        let what = format!("worker CPU per request, capture at {hz} Hz");
        difference_row(what, pairs, Watching::Upprof(hz), "a capture")
    };
    vec![bare_row("worker CPU per request, no capture", pairs), with(99), with(999)]
}

fn bare_row(what: &str, pairs: &Pairs) -> Row {
    let bare = pairs.median_ms(Watching::Nobody).map(|ms| format!("{ms:.2} ms"));
    Row::shown(what, bare).remark(noise(pairs)).remark(format!(
        "about {} requests a phase of {} s",
        pairs.requests_per_phase(),
        PHASE.as_secs()
    ))
}

fn difference_row(what: impl Into<String>, pairs: &Pairs, watching: Watching, who: &str) -> Row {
    let difference = pairs.difference_percent(watching);
    let row = Row::shown(what, difference.as_ref().map(|d| format!("{:+.2} %", d.median())));
    match difference {
        Some(d) => row.remark(d.to_string()).remark(claim(&d, who)),
        None => row,
    }
}

/// `upprof inspect` of a target as large as a gateway.
fn inspect_rows(upprof: &Upprof) -> Result<Vec<Row>> {
    step("filling a target for inspect");
    let Gateway(target) = Gateway::start();
    let workers = target.workers();
    step(&format!("{ROUNDS} runs of every inspector"));
    let looks = Looks::at(upprof, workers[0], ROUNDS)?;
    step("inspect --watch 1s under load");
    let load = Load::on(&target, &GATEWAY);
    let (cpu, rounds) = Watch::start(upprof, target.name())?.cpu_percent(WATCH)?;
    drop(load);
    step(&format!("{ROUNDS} rounds of load without and with inspect --watch 1s"));
    let pairs = Pairs::run(upprof, &target, &INSPECTION, &GATEWAY, ROUNDS, PHASE)?;

    let mut rows = look_rows(&looks);
    let goal = Row::at_most(
        "inspect --watch 1s, of a CPU for each worker",
        1.0,
        Some(cpu / workers.len() as f64),
        "%",
    );
    rows.push(goal.remark(format!("{rounds} rounds in {} s, {} workers", WATCH.as_secs(), workers.len())));
    rows.push(bare_row("worker CPU per request, nobody inspects", &pairs));
    let what = "worker CPU per request, inspect --watch 1s";
    rows.push(difference_row(what, &pairs, Watching::Inspect, "inspect --watch 1s"));
    Ok(rows)
}

fn look_rows(looks: &Looks) -> Vec<Row> {
    let spread = |ms: &[f64]| Spread::of(ms.to_vec());
    let told = |s: &Spread| format!("{:.2} … {:.2} ms in {} runs", s.quantile(0.0), s.max(), s.count());
    let all = spread(&looks.all_but("objects"));
    let mut names: Vec<(f64, &str)> =
        looks.names().filter_map(|name| Some((spread(looks.of(name)?)?.median(), name))).collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0));
    let each: Vec<String> = names.iter().map(|(ms, name)| format!("{name} {ms:.2}")).collect();
    let objects = looks.of("objects").and_then(spread);
    let types = looks.found("objects")["types"].as_array().cloned().unwrap_or_default();
    let count: u64 = types.iter().filter_map(|t| t["count"].as_u64()).sum();
    let torn = &looks.found("objects")["torn"];
    let of_one_moment = torn.as_str().map_or_else(|| "of one moment".into(), |why| format!("torn: {why}"));
    let median = |s: &Option<Spread>| s.as_ref().map(Spread::median);
    let remark = |row: Row, s: &Option<Spread>| match s {
        Some(s) => row.remark(told(s)),
        None => row,
    };
    let what = "inspect, all of one worker but objects";
    vec![
        remark(Row::at_most(what, 300.0, median(&all), "ms"), &all)
            .remark("300 routes, 10 dictionaries, 1,000 traces, 100 MiB of Lua heap")
            .remark(format!("medians, ms: {}", each.join(", "))),
        remark(Row::at_most("inspect objects", 2000.0, median(&objects), "ms"), &objects)
            .remark(format!("{count} objects, {of_one_moment}")),
    ]
}

fn noise(pairs: &Pairs) -> String {
    let Some(n) = pairs.noise_percent() else { return "noise not known".into() };
    format!(
        "noise: these phases differ from their own median by {:+.2} … {:+.2} % (quartiles {:+.2} … {:+.2} %)",
        n.quantile(0.0),
        n.max(),
        n.quantile(0.25),
        n.quantile(0.75),
    )
}

/// What the interval allows to say, and no more.
fn claim(difference: &Spread, who: &str) -> String {
    let (low, high, _) = difference.median_interval();
    if low > 0.0 {
        format!("{who} costs: at least {low:.2} %, at most {high:.2} %")
    } else if high < 0.0 {
        format!("less with {who} than without: the machine was not quiet enough to tell")
    } else {
        format!("no difference that this noise lets see; not more than {high:.2} %")
    }
}

fn time_rows(slow: &Capture, fast: &Capture) -> [Row; 2] {
    let worst = |of: fn(&Capture) -> Option<f64>| Some(of(slow)?.max(of(fast)?));
    let inside = |c: &Capture| c.manifest.own_cost.finish_ns.map_or(f64::NAN, |ns| ns as f64 / 1e9);
    let set_up =
        worst(|c| Some(c.set_up()?.as_secs_f64() + 1.0 / f64::from(c.manifest.capture.frequency_hz)));
    [
        Row::at_most("start to first sample, cold tables", 0.7, set_up, "s").remark(
            "the worse of two, by upprof's own clock (set_up_ns), plus one period: the first tick's latest",
        ),
        Row::at_most("end of window to finished bundle", 2.0, worst(Capture::finish_seconds), "s").remark(
            format!(
                "the worse of two, seen from outside: lifetime of the process without set-up and window \
             (finish_ns, which ends before the archive: {:.2} and {:.2} s)",
                inside(slow),
                inside(fast),
            ),
        ),
    ]
}
