//! The thread that writes results to disk while the lane computes the next ones. Independent of what is written.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use anyhow::{Result, anyhow};

use crate::lm::libtorch;
use crate::lm::panics;

/// Number of jobs that may wait while another is being written. With the one being computed, three results are then in
/// memory, and a device waits only for a disk that is slower than itself.
const WAITING: usize = 1;

/// A write job. Returns the units that are stored now, if it stored more than a batch.
type Job<'scope> = Box<dyn FnOnce() -> Result<Option<Stored>> + Send + 'scope>;

/// Units of a node that are in the store.
#[derive(Debug, PartialEq)]
pub struct Stored {
    pub units: Vec<usize>,
    /// Time to compute them.
    pub seconds: f64,
}

/// Runs write jobs one after the other, in order, on its own thread. After the first failure it writes nothing more.
pub struct Writer<'scope> {
    queue: SyncSender<Job<'scope>>,
    thread: ScopedJoinHandle<'scope, ()>,
    told: Arc<Mutex<Told>>,
}

/// Results reported by the thread.
#[derive(Default)]
struct Told {
    stored: Vec<Stored>,
    failed: bool,
    /// The error, until it is passed on.
    error: Option<anyhow::Error>,
}

impl<'scope> Writer<'scope> {
    /// Starts a writer whose thread ends with `scope` at the latest.
    pub fn start(scope: &'scope Scope<'scope, '_>) -> Writer<'scope> {
        let (queue, jobs) = sync_channel(WAITING);
        let told = Arc::new(Mutex::new(Told::default()));
        let tell = told.clone();
        Writer { queue, thread: scope.spawn(move || work(&jobs, &tell)), told }
    }

    /// Queues `job`; blocks while the queue is full.
    ///
    /// # Errors
    /// The error of an earlier job. This job and all later ones are then dropped.
    pub fn write(&self, job: impl FnOnce() -> Result<Option<Stored>> + Send + 'scope) -> Result<()> {
        self.queue.send(Box::new(job)).map_err(|_| anyhow!("the thread that writes has ended"))?;
        lock(&self.told).error.take().map_or(Ok(()), Err)
    }

    /// Queues `job` without blocking: if the queue is full, `job` is dropped.
    ///
    /// # Errors
    /// As [`write`](Writer::write).
    pub fn offer(&self, job: impl FnOnce() -> Result<Option<Stored>> + Send + 'scope) -> Result<()> {
        let _ = self.queue.try_send(Box::new(job));
        lock(&self.told).error.take().map_or(Ok(()), Err)
    }

    /// The units stored since the last call.
    pub fn stored(&self) -> Vec<Stored> {
        std::mem::take(&mut lock(&self.told).stored)
    }

    /// Waits until all jobs are done. Returns what [`stored`](Writer::stored) would, and the result.
    pub fn end(self) -> (Vec<Stored>, Result<()>) {
        drop(self.queue);
        let _ = self.thread.join(); // it catches what panics
        let told = std::mem::take(&mut *lock(&self.told));
        (told.stored, told.error.map_or(Ok(()), Err))
    }
}

fn work(jobs: &Receiver<Job<'_>>, told: &Mutex<Told>) {
    for job in jobs {
        if lock(told).failed {
            continue;
        }
        let written =
            catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| Err(anyhow!("{}", said(&*panic))));
        let mut told = lock(told);
        match written {
            Ok(stored) => told.stored.extend(stored),
            Err(error) => (told.failed, told.error) = (true, Some(error)),
        }
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The message of a panic.
pub fn said(panic: &(dyn Any + Send)) -> String {
    panics::said(panic).map_or_else(|| "a stage panicked".to_string(), libtorch::said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread::scope;

    fn stored(unit: usize) -> Result<Option<Stored>> {
        Ok(Some(Stored { units: vec![unit], seconds: 0.5 }))
    }

    #[test]
    fn what_is_given_is_written_in_its_order() {
        let written = Mutex::new(Vec::new());
        scope(|scope| {
            let writer = Writer::start(scope);
            let written = &written;
            for n in 0..20 {
                let write = move || {
                    lock_numbers(written).push(n);
                    stored(n)
                };
                writer.write(write).unwrap();
            }
            let before = writer.stored();
            let (after, ended) = writer.end();
            ended.unwrap();
            assert!(before.into_iter().chain(after).map(|stored| stored.units[0]).eq(0..20));
        });
        assert!(lock_numbers(&written).iter().copied().eq(0..20));
    }

    fn lock_numbers(numbers: &Mutex<Vec<usize>>) -> std::sync::MutexGuard<'_, Vec<usize>> {
        numbers.lock().unwrap()
    }

    /// However fast jobs arrive, at most one waits in addition to the one that is being written.
    #[test]
    fn what_waits_is_bounded() {
        let (begun, given) = (AtomicUsize::new(0), AtomicUsize::new(0));
        scope(|scope| {
            let (begun, given) = (&begun, &given);
            let writer = Writer::start(scope);
            for _ in 0..30 {
                let write = move || {
                    let before = begun.fetch_add(1, SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    // Jobs queued so far: the earlier ones, this one, the one that waits, and one that is being sent.
                    assert!(given.load(SeqCst) <= before + 3);
                    Ok(None)
                };
                given.fetch_add(1, SeqCst);
                writer.write(write).unwrap();
            }
            writer.end().1.unwrap();
        });
        assert_eq!(begun.into_inner(), 30);
    }

    #[test]
    fn after_a_failure_nothing_is_written_and_it_is_told_once() {
        let later = AtomicUsize::new(0);
        scope(|scope| {
            let writer = Writer::start(scope);
            writer.write(|| stored(7)).unwrap();
            let mut told = vec![writer.write(|| Err(anyhow!("the disk is full")))];
            for _ in 0..5 {
                told.push(writer.write(|| stored(later.fetch_add(1, SeqCst))));
            }
            let (written, ended) = writer.end();
            told.push(ended);
            let told: Vec<String> = told.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
            assert_eq!(written, [Stored { units: vec![7], seconds: 0.5 }]);
            assert_eq!(told, ["the disk is full"]);
        });
        assert_eq!(later.into_inner(), 0);
    }

    #[test]
    fn what_is_offered_waits_for_nobody() {
        let (begun, go) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        let waits = || {
            begun.wait();
            go.wait();
            stored(0)
        };
        scope(|scope| {
            let writer = Writer::start(scope);
            writer.write(waits).unwrap();
            begun.wait();
            // While that job runs, there is room for one more in the queue.
            (1..4).for_each(|n| writer.offer(move || stored(n)).unwrap());
            go.wait();
            let (written, ended) = writer.end();
            ended.unwrap();
            assert!(written.into_iter().map(|stored| stored.units[0]).eq(0..2));
        });
    }

    #[test]
    fn a_panic_is_a_failure() {
        scope(|scope| {
            let writer = Writer::start(scope);
            let told = writer.write(|| panic!("a bug"));
            let ended = writer.end().1;
            // Reported by whichever call came after it.
            assert_eq!(told.and(ended).unwrap_err().to_string(), "a bug");
        });
        assert_eq!(said(&7), "a stage panicked");
    }
}
