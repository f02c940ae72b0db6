//! Many requests to one server, some at a time: waiting, asking again, and when to give up. Knows nothing of stories.

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

/// Failures of one request that it is given up after, where the server is not merely busy or away.
const ATTEMPTS: u32 = 6;
/// After the first failure; doubled after each further one. No draw is in it, so that runs are alike.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that is our own choice.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// So many more requests than are made at a time may be refused in unclear words before any has an answer.
const DOUBTED: usize = 2;
/// Another first wait, in milliseconds: for tests.
const FIRST_WAIT_VARIABLE: &str = "EMOFLOW_SERVER_WAIT_MS";
/// Shorter waits are not worth a line, unless there have been many.
const SAID_WAIT: Duration = Duration::from_secs(5);
/// What all of them run into is said once in so long.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// How often someone who waits looks whether to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Those who ask `client`.
pub struct Crew<'a> {
    pub client: &'a Client,
    pub params: &'a Generate,
    /// Requests at a time.
    pub parallel: usize,
    /// For how long it is borne that the server is busy or away.
    pub patience: Duration,
    /// What it answered before, if anything.
    pub known: Option<Question>,
}

/// What a worker tells.
enum Event {
    /// The last is dropped when the answer is taken.
    Answered(usize, Answer, Sender<()>),
    /// It was refused, and nothing has an answer yet that would tell whether everything is.
    Doubted(usize, String),
    /// A line for people.
    Said(String),
    Failed(String),
}

/// What all workers know.
struct Shared<'a> {
    open: Mutex<VecDeque<(usize, &'a Question)>>,
    /// What the server answered.
    known: Mutex<Option<Question>>,
    /// Something was refused in unclear words, and nothing has an answer yet.
    doubt: AtomicBool,
    /// Nobody asks before, as the server wants.
    not_before: Mutex<Option<Instant>>,
    /// No request is made any more.
    stop: AtomicBool,
    retries: AtomicUsize,
    first_wait: Duration,
}

/// What is told of requests on the way. All on the thread of who asked for them.
pub trait Desk {
    /// The question at this place has its answer.
    fn answered(&mut self, place: usize, answer: Answer) -> Result<()>;
    /// A line for people.
    fn said(&mut self, line: &str);
    /// Whether to make no more requests.
    fn stopped(&self) -> bool;
}

impl Crew<'_> {
    /// Has each of `questions` answered; `desk` gets the answers in the order in which they come. Returns how many
    /// requests were made again.
    ///
    /// Whatever ends it early, requests that are on their way are waited for, and their answers reach `desk`.
    ///
    /// A request that is refused in words which do not tell whether that concerns it alone is taken for filtered where the
    /// server still answers what it answered before; where it answers nothing, that ends it.
    ///
    /// # Errors
    /// [`Interrupted`]; what the server refused; the last failure of a request that failed too often; what `desk` says.
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

    /// Asks question after question until none is left or it is to stop.
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
                        // Does it refuse everything now, or this one?
                        let again = self.insist(&known, shared, events);
                        again.map(|answer| answer.map(|_| refusal(why)))
                    }
                },
                Err(Ok(trouble)) => Err(trouble.into()),
                Err(Err(error)) => Err(error),
                Ok(answer) => Ok(answer),
            };
            // Whoever listens does so until all workers are gone.
            match answered {
                Ok(Some(answer)) => {
                    // No next question before: else more than one answer a worker could be lost.
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
                    // Before anybody listens: no further request is made, by this worker or another.
                    shared.stop.store(true, Ordering::SeqCst);
                    let _ = events.send(Event::Failed(said));
                }
            }
        }
    }

    /// That every request is refused.
    fn refused(&self, why: &str) -> anyhow::Error {
        anyhow::Error::msg(self.client.hinted(why))
    }

    /// The answer to `question`, asked for as often as that may help; `None` where it is to stop before.
    fn insist(&self, question: &Question, shared: &Shared, events: &Sender<Event>) -> Result<Option<Answer>> {
        let (mut failures, mut tries, mut was_empty) = (0, 0, false);
        let mut failing: Option<Instant> = None;
        loop {
            if !shared.may_ask() {
                return Ok(None);
            }
            let (why, asked_wait, busy) = match self.client.chat(self.params, question) {
                // Once may be an accident; twice is what the model has to say.
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

/// A request that is refused for what it asks has that for its answer.
fn refusal(why: String) -> Answer {
    Answer { text: why, end: End::Filtered, tokens: None, first: None }
}

impl<'a> Shared<'a> {
    /// The next question; in doubt the last one, which is likely to be about something else.
    fn next(&self) -> Option<(usize, &'a Question)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.doubt.load(Ordering::SeqCst) && !self.answers() { open.pop_back() } else { open.pop_front() }
    }

    fn known(&self) -> Option<Question> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the server is known to answer anything.
    fn answers(&self) -> bool {
        self.known().is_some()
    }

    fn has_answered(&self, question: &Question) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| question.clone());
    }

    /// Waits while the server wants to be left alone. Whether a request may be made after that.
    fn may_ask(&self) -> bool {
        let not_before = || *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        // Another's reply may move it meanwhile.
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

    /// Waits until `time`, or until it is to stop.
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
