//! Parallel requests to one server: waiting, retrying, and giving up. Independent of stories.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::client::{Client, Trouble};
use super::protocol::{Answer, Question};
use crate::interrupt::Interrupted;
use crate::stages::stories::Generate;
use crate::stages::stories::writing::End;

/// The number of failures after which a request is given up, not counting those in which the server is busy or
/// unavailable.
const ATTEMPTS: u32 = 6;
/// The wait after the first failure; doubled after each further one. Without random jitter, so that runs are alike.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait unless the server asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The number of requests, in addition to those in parallel, that may be refused in unclear words
/// ([`Trouble::Unclear`]) before any is answered.
const DOUBTED: usize = 2;
/// The environment variable with another first wait, in milliseconds: for tests.
const FIRST_WAIT_VARIABLE: &str = "EMOFLOW_SERVER_WAIT_MS";
/// Shorter waits are not reported, unless requests have been failing for this long.
const SAID_WAIT: Duration = Duration::from_secs(5);
/// A message that several workers report is shown once in this period.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// How often a waiting worker checks whether to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Workers that send requests through `client`.
pub struct Crew<'a> {
    pub client: &'a Client,
    pub params: &'a Generate,
    /// The number of parallel requests.
    pub parallel: usize,
    /// How long the server may be busy or unavailable before a request is given up.
    pub patience: Duration,
    /// A question that the server has answered before, if any.
    pub known: Option<Question>,
}

/// An event that a worker reports.
enum Event {
    /// The sender is dropped when the answer has been processed.
    Answered(usize, Answer, Sender<()>),
    /// The request was refused, and no request has been answered yet that would show whether every one is refused.
    Doubted(usize, String),
    /// A message for people.
    Said(String),
    Failed(String),
}

/// The state shared by all workers.
struct Shared<'a> {
    open: Mutex<VecDeque<(usize, &'a Question)>>,
    /// A question that the server has answered.
    known: Mutex<Option<Question>>,
    /// A request was refused in unclear words, and none has been answered yet.
    doubt: AtomicBool,
    /// No request may be sent before this time, at the server's request.
    not_before: Mutex<Option<Instant>>,
    /// No further requests are to be made.
    stop: AtomicBool,
    retries: AtomicUsize,
    first_wait: Duration,
}

/// Receives what happens to requests. All calls are on the thread of the caller of [`Crew::ask`].
pub trait Desk {
    /// The question with this index has been answered.
    fn answered(&mut self, place: usize, answer: Answer) -> Result<()>;
    /// A message for people.
    fn said(&mut self, line: &str);
    /// Whether no further requests are to be made.
    fn stopped(&self) -> bool;
}

impl Crew<'_> {
    /// Asks all `questions`; `desk` receives the answers in the order of arrival. Returns the number of repeated
    /// requests.
    ///
    /// If it ends early for any reason, requests in progress are awaited, and their answers still reach `desk`.
    ///
    /// If a request is refused in words that do not tell whether others would be refused too, a question that was
    /// answered before is asked again. If the server still answers it, the request counts as filtered; if not, that is
    /// an error.
    ///
    /// # Errors
    /// [`Interrupted`]; a refusal by the server; the last failure of a request that failed too often; an error of
    /// `desk`.
    pub fn ask(&self, questions: &[(usize, Question)], desk: &mut dyn Desk) -> Result<usize> {
        let shared = Shared {
            open: Mutex::new(questions.iter().map(|(place, question)| (*place, question)).collect()),
            known: Mutex::new(self.known.clone()),
            doubt: AtomicBool::new(false),
            not_before: Mutex::default(),
            stop: AtomicBool::new(false),
            retries: AtomicUsize::new(0),
            first_wait: first_wait(),
        };
        let mut left = questions.len();
        let mut failure = None;
        let mut doubted: Vec<(usize, String)> = Vec::new();
        let mut said: HashMap<String, Instant> = HashMap::new();
        std::thread::scope(|scope| {
            let (sender, events) = mpsc::channel();
            for _ in 0..self.parallel.min(questions.len()) {
                let (sender, shared) = (sender.clone(), &shared);
                scope.spawn(move || self.work(shared, &sender));
            }
            drop(sender);
            loop {
                if desk.stopped() {
                    shared.stop.store(true, Ordering::SeqCst);
                }
                let failed = match events.recv_timeout(LOOK) {
                    Ok(Event::Answered(place, answer, _taken)) => {
                        left -= 1;
                        desk.answered(place, answer).err()
                    }
                    Ok(Event::Said(line)) => {
                        if said.get(&line).is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
                            desk.said(&line);
                            said.insert(line, Instant::now());
                        }
                        None
                    }
                    Ok(Event::Doubted(place, why)) => {
                        doubted.push((place, why));
                        let all = doubted.len() >= self.parallel + DOUBTED && !shared.answers();
                        all.then(|| self.refused(&doubted[0].1))
                    }
                    Ok(Event::Failed(why)) => Some(anyhow::Error::msg(why)),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if let Some(error) = failed {
                    shared.stop.store(true, Ordering::SeqCst);
                    failure.get_or_insert(error);
                }
            }
        });
        if !doubted.is_empty() && failure.is_none() && !shared.stop.load(Ordering::SeqCst) {
            if !shared.answers() {
                return Err(self.refused(&doubted[0].1));
            }
            left -= doubted.len();
            for (place, why) in doubted {
                desk.answered(place, refusal(why))?;
            }
        }
        match failure {
            Some(error) => Err(error),
            None if left > 0 && shared.stop.load(Ordering::SeqCst) => bail!(Interrupted),
            None if left > 0 => bail!("{left} requests have no answer"),
            None => Ok(shared.retries.into_inner()),
        }
    }

    /// Asks questions until none is left or it is to stop.
    fn work(&self, shared: &Shared, events: &Sender<Event>) {
        while !shared.stop.load(Ordering::SeqCst) {
            let Some((place, question)) = shared.next() else { return };
            let answered = self.insist(question, shared, events).map(|answer| {
                answer.inspect(|answer| {
                    if answer.end != End::Filtered {
                        shared.has_answered(question);
                    }
                })
            });
            let answered = match answered.map_err(|error| error.downcast::<Trouble>()) {
                Err(Ok(Trouble::Unclear(why))) => match shared.known() {
                    None => {
                        shared.doubt.store(true, Ordering::SeqCst);
                        let _ = events.send(Event::Doubted(place, why));
                        continue;
                    }
                    Some(known) => {
                        // Does the server refuse everything now, or only this question?
                        let again = self.insist(&known, shared, events);
                        again.map(|answer| answer.map(|_| refusal(why)))
                    }
                },
                Err(Ok(trouble)) => Err(trouble.into()),
                Err(Err(error)) => Err(error),
                Ok(answer) => Ok(answer),
            };
            // The receiver listens until all workers have ended.
            match answered {
                Ok(Some(answer)) => {
                    // Wait before the next question: otherwise more than one answer per worker could be lost.
                    let (taken, wait) = mpsc::channel();
                    let _ = events.send(Event::Answered(place, answer, taken));
                    let _ = wait.recv();
                }
                Ok(None) => return,
                Err(error) => {
                    let said = match error.downcast_ref::<Trouble>() {
                        Some(Trouble::Unclear(why)) => self.client.hinted(why),
                        _ => format!("{error:#}"),
                    };
                    // Set before the event is received, so that no worker makes another request.
                    shared.stop.store(true, Ordering::SeqCst);
                    let _ = events.send(Event::Failed(said));
                }
            }
        }
    }

    /// The error that every request is refused.
    fn refused(&self, why: &str) -> anyhow::Error {
        anyhow::Error::msg(self.client.hinted(why))
    }

    /// The answer to `question`, with as many retries as are useful; `None` if it is to stop first.
    fn insist(&self, question: &Question, shared: &Shared, events: &Sender<Event>) -> Result<Option<Answer>> {
        let (mut failures, mut tries, mut was_empty) = (0, 0, false);
        let mut failing: Option<Instant> = None;
        loop {
            if !shared.may_ask() {
                return Ok(None);
            }
            let (why, asked_wait, busy) = match self.client.chat(self.params, question) {
                // An empty answer may be an accident once; the second time it counts.
                Ok(answer) if answer.text.trim().is_empty() && answer.end == End::Whole && !was_empty => {
                    was_empty = true;
                    shared.retries.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                Ok(answer) => return Ok(Some(answer)),
                Err(Trouble::Passing { why, wait, busy }) => (why, wait, busy),
                Err(trouble) => return Err(trouble.into()),
            };
            tries += u32::from(!busy);
            if tries == ATTEMPTS {
                bail!("{why}, {ATTEMPTS} times in a row");
            }
            let lasted = failing.get_or_insert_with(Instant::now).elapsed();
            let left = self.patience.saturating_sub(lasted);
            let wait = asked_wait.unwrap_or(LONGEST_WAIT.min(shared.first_wait * (1 << failures)));
            failures = 10.min(failures + 1);
            let bound = format!("`patience` of the source is {} s", self.patience.as_secs());
            if asked_wait.is_some_and(|wait| wait > left) {
                bail!("{why}, and asks to wait {} s; {bound}", wait.as_secs());
            }
            if busy && left.is_zero() {
                bail!("{why}; {bound}");
            }
            let wait = if busy { wait.min(left) } else { wait };
            if wait.max(lasted) >= SAID_WAIT {
                let _ = events.send(Event::Said(format!("{why}; retrying in {} s", wait.as_secs())));
            }
            if asked_wait.is_some() {
                shared.nobody_before(Instant::now() + wait);
            }
            shared.retries.fetch_add(1, Ordering::SeqCst);
            shared.wait_until(Instant::now() + wait);
        }
    }
}

/// A request refused for its content has the refusal as its answer.
fn refusal(why: String) -> Answer {
    Answer { text: why, end: End::Filtered, tokens: None, first: None }
}

impl<'a> Shared<'a> {
    /// The next question; in doubt the last one, which is likely to be on a different subject.
    fn next(&self) -> Option<(usize, &'a Question)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.doubt.load(Ordering::SeqCst) && !self.answers() { open.pop_back() } else { open.pop_front() }
    }

    fn known(&self) -> Option<Question> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the server is known to answer any request.
    fn answers(&self) -> bool {
        self.known().is_some()
    }

    fn has_answered(&self, question: &Question) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| question.clone());
    }

    /// Waits as long as the server has asked for. Returns whether a request may be made then.
    fn may_ask(&self) -> bool {
        let not_before = || *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        // Another worker's reply may postpone it meanwhile.
        while let Some(time) = not_before().filter(|time| *time > Instant::now()) {
            self.wait_until(time);
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
        }
        !self.stop.load(Ordering::SeqCst)
    }

    fn nobody_before(&self, time: Instant) {
        let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        *not_before = not_before.max(Some(time));
    }

    /// Waits until `time`, or until requests are to stop.
    fn wait_until(&self, time: Instant) {
        while let Some(left) = time.checked_duration_since(Instant::now())
            && !left.is_zero()
            && !self.stop.load(Ordering::SeqCst)
        {
            std::thread::sleep(left.min(LOOK));
        }
    }
}

fn first_wait() -> Duration {
    let set = std::env::var(FIRST_WAIT_VARIABLE).ok().and_then(|ms| ms.parse().ok());
    set.map_or(FIRST_WAIT, Duration::from_millis)
}
