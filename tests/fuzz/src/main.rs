//! `make fuzz`: hunts in every target for a given time, as many at once as there are cores.
//!
//! With `--replay` it tries files again and says what comes of each.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use signet_fuzz::corpus;
use signet_fuzz::hunt::{Broken, Hunt, outcome};
use signet_fuzz::targets::{self, Target};
use signet_fuzz::watch::{ENDLESS, MOST_MEMORY, Watched, resident};

const USAGE: &str =
    "usage: signet-fuzz [--seconds 60] [--seed NUMBER] [TARGET...]\n       signet-fuzz --replay TARGET FILE...";

/// How often endless inputs are looked for.
const GLANCE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    // Panics are told with their input; a backtrace for each would bury that.
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((first, [target, files @ ..])) if first == "--replay" => replay(target, files),
        _ => match Options::read(&args) {
            Ok(options) => hunt(&options),
            Err(usage) => {
                say(&format!("signet-fuzz: {usage}\n{USAGE}"));
                ExitCode::from(2)
            }
        },
    }
}

struct Options {
    seconds: u64,
    seed: u64,
    targets: Vec<Target>,
}

impl Options {
    fn read(args: &[String]) -> Result<Self, String> {
        let mut options = Self { seconds: 60, seed: fresh_seed(), targets: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || args.next().and_then(|value| value.parse().ok()).ok_or(format!("{arg} needs a number"));
            match arg.as_str() {
                "--seconds" => options.seconds = number()?,
                "--seed" => options.seed = number()?,
                name => options.targets.push(targets::named(name).ok_or_else(|| unknown(name))?),
            }
        }
        if options.targets.is_empty() {
            options.targets = targets::ALL.to_vec();
        }
        Ok(options)
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
    format!("there is no target {name}; there are {}", names.join(", "))
}

/// Another one for each run, so that runs add up; the monotonic clock and the process differ enough for that.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 16
}

fn replay(name: &str, files: &[String]) -> ExitCode {
    let Some(target) = targets::named(name) else {
        say(&unknown(name));
        return ExitCode::from(2);
    };
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let result = std::fs::read(file).map_err(|error| error.to_string()).and_then(|input| outcome(&target, &input));
        match result {
            Ok(words) => say(&format!("{file}: {words}")),
            Err(what) => {
                say(&format!("{file}: BROKEN: {what}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn hunt(options: &Options) -> ExitCode {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(options.targets.len());
    say(&format!("{} targets, {} s each, seed {}", options.targets.len(), options.seconds, options.seed));
    let waiting: Mutex<VecDeque<Target>> = Mutex::new(options.targets.iter().copied().collect());
    let (watches, current) = (
        (0..workers).map(|_| Watched::default()).collect::<Vec<_>>(),
        (0..workers).map(|_| Mutex::new("")).collect::<Vec<_>>(),
    );
    let failures = Mutex::new(0u32);
    std::thread::scope(|scope| {
        let (done, all_done) = mpsc::channel::<()>();
        for (watched, current) in watches.iter().zip(&current) {
            let (done, waiting, failures) = (done.clone(), &waiting, &failures);
            scope.spawn(move || {
                // The lock is not to be held while the target runs.
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(target) = next() {
                    *current.lock().unwrap_or_else(PoisonError::into_inner) = target.name;
                    if !one(target, options, watched) {
                        *failures.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    }
                }
                drop(done);
            });
        }
        drop(done);
        // An input that never ends cannot be stopped, so the whole program ends with it.
        while all_done.recv_timeout(GLANCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let memory = resident();
            for (watched, current) in watches.iter().zip(&current) {
                let Some((since, input)) = watched.current() else { continue };
                let name = *current.lock().unwrap_or_else(PoisonError::into_inner);
                if since > ENDLESS {
                    tell(name, &format!("it has not ended after {} s", since.as_secs()), &input, options.seed);
                    std::process::exit(1);
                }
                if memory > MOST_MEMORY {
                    tell(
                        name,
                        &format!("it, or another one beside it, took {} MiB", memory >> 20),
                        &input,
                        options.seed,
                    );
                }
            }
            if memory > MOST_MEMORY {
                std::process::exit(1);
            }
        }
    });
    let failures = *failures.lock().unwrap_or_else(PoisonError::into_inner);
    say(&format!("{} passed, {failures} failed", options.targets.len() - failures as usize));
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether a target kept its promises.
fn one(target: Target, options: &Options, watched: &Watched) -> bool {
    let inputs = match corpus::kept(&target) {
        Ok(inputs) => inputs.into_iter().map(|(_, input)| input).collect(),
        Err(error) => {
            say(&format!("{}: its corpus cannot be read: {error}", target.name));
            return false;
        }
    };
    let mut hunt = Hunt::new(target, options.seed, inputs, watched);
    let result = hunt.run(Instant::now() + Duration::from_secs(options.seconds));
    match result {
        Ok(()) => {
            say(&format!("{:8} {:>9} inputs, {:>5} different outcomes", target.name, hunt.tried(), hunt.outcomes()));
            true
        }
        Err(Broken { what, input, found_with, after }) => {
            let what = format!("{what}\n  found after {after} inputs; {} bytes, made of {found_with}", input.len());
            tell(target.name, &what, &input, options.seed);
            false
        }
    }
}

fn tell(target: &str, what: &str, input: &[u8], seed: u64) {
    let folder = PathBuf::from("target/fuzz");
    let place = corpus::write(&folder, target, input);
    let place = place.map_or_else(|error| format!("(not written: {error})"), |path| path.display().to_string());
    let name = Path::new(&place).file_name().unwrap_or_default().display().to_string();
    say(&format!(
        "{target} is BROKEN: {what}\n  input: {place}; try it again: signet-fuzz --replay {target} {place}\n  \
         the whole hunt again: signet-fuzz --seed {seed} {target}\n  \
         keep it once it is mended: mv {place} tests/fuzz/regressions/{target}/{name}"
    ));
}

fn say(text: &str) {
    // A reader that went away is no reason to stop hunting.
    let _closed = writeln!(std::io::stdout(), "{text}");
}
