//! Runs work whose amount is determined by untrusted input (a chat template, the regular expressions of a tokenizer),
//! within limits on time, memory and stack. Independent of templates and tokenizers.
//!
//! It runs on a separate thread, which is abandoned if it exceeds its limits: a thread cannot be terminated from
//! outside, but it is stopped at its next allocation. `docs/design/strangers.md` gives the reasons.

mod memory;

pub use memory::{Counting, is_bounded};

use anyhow::{Error, Result, bail};
use memory::{Fate, counted};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::lm::panics;

/// Waiting is counted in steps of this length, so that time during which the process was suspended does not count.
const PIECE: Duration = Duration::from_millis(20);

/// Limits on a piece of work.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Time in seconds, excluding periods in which the process is suspended.
    pub seconds: u32,
    /// Memory held at any one time, in bytes.
    pub bytes: usize,
}

/// Threads with stacks of one size that wait for work of one kind.
pub struct ThreadPool {
    /// Stack size of each thread, in bytes. Stacks are only mapped until they are used.
    stack: usize,
    idle: Mutex<Vec<Sender<Job>>>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs work on one untrusted object: after one run exceeds its limits, no further run is tried, since each may leave
/// behind a thread with the memory that it holds.
#[derive(Default)]
pub struct Wary {
    beyond: OnceLock<String>,
}

impl Wary {
    /// Runs `work` on a thread of `pool`.
    ///
    /// # Errors
    /// Those of `work`; work that exceeds `bounds`, or panics.
    pub fn run<T: Send + 'static>(
        &self,
        pool: &'static ThreadPool,
        bounds: Bounds,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Some(beyond) = self.beyond.get() {
            bail!("{beyond}, so it is not tried again");
        }
        match pool.run(bounds, work) {
            Ok(outcome) => outcome,
            Err(beyond) => Err(Error::msg(self.beyond.get_or_init(|| beyond).clone())),
        }
    }
}

impl ThreadPool {
    /// A pool without threads.
    pub const fn new(stack: usize) -> ThreadPool {
        ThreadPool { stack, idle: Mutex::new(Vec::new()) }
    }

    /// The result of `work`, or how it exceeded its limits.
    fn run<T: Send + 'static>(
        &'static self,
        bounds: Bounds,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Result<T>, String> {
        let fate = Arc::new(Fate::default());
        let (done, outcome) = channel();
        let of_work = Arc::clone(&fate);
        self.give(Box::new(move || {
            let result = counted(&of_work, bounds.bytes, || catch_unwind(AssertUnwindSafe(work)));
            let _ = done.send(result); // fails if the work was abandoned
        }))?;
        let pieces = u128::from(bounds.seconds) * 1000 / PIECE.as_millis();
        for _ in 0..pieces {
            match outcome.recv_timeout(PIECE) {
                Ok(Ok(result)) => return Ok(result),
                Ok(Err(panic)) => {
                    return Ok(Err(Error::msg(panics::said(&*panic).unwrap_or("it panics").to_string())));
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(Error::msg("its thread has ended"))),
                Err(RecvTimeoutError::Timeout) if fate.is_over() => {
                    return Err(format!("it takes more than {} MB of memory", bounds.bytes >> 20));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        fate.give_up();
        Err(format!("it takes more than {} seconds", bounds.seconds))
    }

    /// Runs `job` on an idle thread, or on a new one.
    fn give(&'static self, job: Job) -> Result<(), String> {
        let idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        let worker = match idle {
            Some(worker) => worker,
            None => self.hire()?,
        };
        worker.send(job).map_err(|_| "its thread has ended".to_string())
    }

    fn hire(&'static self) -> Result<Sender<Job>, String> {
        let (worker, jobs) = channel::<Job>();
        let own = worker.clone();
        let work = move || {
            for job in jobs {
                job();
                self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(own.clone());
            }
        };
        let thread = std::thread::Builder::new().name("bounded".into()).stack_size(self.stack);
        thread.spawn(work).map_err(|error| format!("no thread can be started for it: {error}"))?;
        Ok(worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static POOL: ThreadPool = ThreadPool::new(1 << 20);
    const SMALL: Bounds = Bounds { seconds: 1, bytes: 10 << 20 };

    fn run<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        Wary::default().run(&POOL, SMALL, work)
    }

    #[test]
    fn work_within_its_bounds_gives_what_it_gives() {
        assert_eq!(run(|| Ok(vec![7u8; 9 << 20].len())).unwrap(), 9 << 20);
        // Freed memory no longer counts.
        assert_eq!(run(|| Ok((0..99).map(|i| vec![i; 1 << 20].len()).sum::<usize>())).unwrap(), 99 << 20);
        assert!(
            run(|| -> Result<()> { bail!("its own error") }).unwrap_err().to_string().contains("own error")
        );
        assert!(run(|| -> Result<()> { panic!("a bug") }).unwrap_err().to_string().contains("a bug"));
        assert!(!is_bounded());
    }

    #[test]
    fn work_beyond_its_bounds_is_an_error_and_is_not_tried_again() {
        let wary = Wary::default();
        let doubled = || {
            let mut text = "x".to_string();
            loop {
                text.push_str(&text.clone());
            }
        };
        let error = |work: fn() -> Result<()>| format!("{:#}", wary.run(&POOL, SMALL, work).unwrap_err());
        assert!(error(doubled).contains("more than 10 MB"));
        let again = error(|| panic!("it was tried again"));
        assert!(again.contains("10 MB") && again.contains("not tried again"), "{again}");
        // A loop that allocates, and one that does not allocate for longer than the time limit.
        for work in [
            || loop {
                drop(vec![1; 100])
            },
            || {
                std::thread::sleep(Duration::from_secs(3));
                Ok(())
            },
        ] {
            let work: fn() -> Result<()> = work;
            let error = Wary::default().run(&POOL, SMALL, work).unwrap_err().to_string();
            assert!(error.contains("more than 1 seconds"), "{error}");
        }
        assert!(run(|| Ok(())).is_ok(), "others go on");
    }
}
