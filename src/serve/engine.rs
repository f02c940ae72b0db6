//! The device's thread: it alone owns the model and serves requests one after the other. A request whose client has
//! disconnected is aborted. Only weights and vectors are kept between requests, so that no text can depend on earlier
//! steering.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::catalogue::{Direction, Ready, Set, Steer};
use super::refusal::{Refusal, bad};
use crate::lm::free_memory::FreeMemory;
use crate::lm::memory::{self, Work as Memory};
use crate::lm::panics;
use crate::lm::shortage::Shortage;
use crate::lm::{LanguageModel, Layer, Sampling, Traced, heap};
use crate::progress::Silent;
use crate::stages::analysis::{LayerVectors, VectorSet};
use crate::stages::live::{self, Along, Text, Token};
use crate::store::Lookup;

/// Limit on waiting requests.
const QUEUE: usize = 32;

/// A unit of work on the models.
pub type Job<'s> = Box<dyn FnOnce(&mut Models<'s>) + Send + 's>;

/// Queue of the requests that wait for the device.
pub struct Queue<'s>(SyncSender<Job<'s>>);

/// An event in the processing of a request.
#[derive(Debug)]
pub enum Event {
    /// Processing has begun; the number of tokens of each prompt.
    Begun(Vec<usize>),
    Token(Piece),
    /// Additional data for the playground.
    Said(Value),
    /// Dot products of the tokens' residual streams with the direction being read.
    Traced(Vec<Traced>),
    Failed(Refusal),
    /// The request is complete.
    Ended,
}

/// A token of a generated text, with the text that becomes final with it.
#[derive(Debug)]
pub struct Piece {
    /// Index of the text.
    pub text: usize,
    /// `None` if the token's name was not requested.
    pub token: Option<Likely>,
    /// An end token, which is not part of the text.
    pub ends: bool,
    pub more: String,
    /// `stop` or `length` on the last token of a text.
    pub finish: Option<&'static str>,
    /// Not generated: part of the prompt, or empty.
    pub is_echo: bool,
}

/// A token's name and log-probability, with the most likely tokens at its position.
#[derive(Debug, Clone)]
pub struct Likely {
    pub name: String,
    pub logprob: f64,
    pub likeliest: Vec<(String, f64)>,
}

/// A request to generate texts.
pub struct Order {
    pub model: usize,
    pub texts: Vec<Text>,
    pub sampling: Sampling,
    /// Stop strings: a text ends before the first occurrence of any of them.
    pub stops: Vec<String>,
    /// Report log-probabilities, with this many of the most likely tokens.
    pub top: Option<usize>,
    pub along: Option<Along>,
}

/// The client's side of a request in progress. Dropping it aborts the request.
pub struct Live {
    pub events: Receiver<Event>,
    gone: Arc<AtomicBool>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

/// Creates the queue and its receiver.
pub fn queue<'s>() -> (Queue<'s>, Receiver<Job<'s>>) {
    let (put, take) = sync_channel(QUEUE);
    (Queue(put), take)
}

/// Processes jobs until the queue is closed.
pub fn work<'s>(ready: Ready<'s>, jobs: Receiver<Job<'s>>) {
    let mut models = Models { ready, loaded: None, vectors: HashMap::new() };
    for job in jobs {
        job(&mut models);
    }
}

impl<'s> Queue<'s> {
    /// Enqueues `job`. Its result, or its panic, becomes the last event.
    ///
    /// # Errors
    /// Too many requests are waiting already.
    pub fn put(
        &self,
        job: impl FnOnce(&mut Models<'s>, &Teller) -> Result<()> + Send + 's,
    ) -> Result<Live, Refusal> {
        let (teller, live) = Teller::new();
        let job = move |models: &mut Models<'s>| {
            teller.ends(|teller| job(models, teller));
            heap::give_back();
        };
        self.0.try_send(Box::new(job)).map_err(full)?;
        Ok(live)
    }
}

/// Why a request cannot be enqueued.
fn full<T>(error: TrySendError<T>) -> Refusal {
    match error {
        TrySendError::Full(_) => {
            Refusal::busy(format!("{QUEUE} requests are already waiting for the model: try again later"))
        }
        TrySendError::Disconnected(_) => Refusal::busy("the model's thread has ended"),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> anyhow::Error {
    if let Some(shortage) = Shortage::of(panic) {
        return shortage.into();
    }
    let said = panics::said(panic).unwrap_or("a panic");
    anyhow!("a bug: {}", said.lines().next().unwrap_or_default())
}

/// The error of work for a client that has disconnected.
fn left() -> anyhow::Error {
    anyhow!("the client is gone")
}

/// Sends a request's events to its client.
pub struct Teller {
    events: Sender<Event>,
    gone: Arc<AtomicBool>,
}

impl Teller {
    /// Creates a sender and the client's side of it.
    fn new() -> (Teller, Live) {
        let (events, told) = channel();
        let gone = Arc::new(AtomicBool::new(false));
        (Teller { events, gone: gone.clone() }, Live { events: told, gone })
    }

    /// Runs `job` unless the client has disconnected; its result, or its panic, becomes the last event.
    fn ends(&self, job: impl FnOnce(&Teller) -> Result<()>) {
        if self.is_gone() {
            return;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| job(self)));
        let outcome = outcome.unwrap_or_else(|panic| Err(panicked(&*panic)));
        let _ = self.events.send(match outcome {
            Ok(()) => Event::Ended,
            Err(error) => Event::Failed(Refusal::from(error)),
        });
    }

    /// Whether the client has disconnected.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Sends an event.
    ///
    /// # Errors
    /// The client has disconnected.
    pub fn tell(&self, event: Event) -> Result<()> {
        if self.is_gone() {
            return Err(left());
        }
        self.events.send(event).map_err(|_| left())
    }
}

/// A loaded model, its index among the resolved ones, and the memory that was free before it was loaded.
struct Loaded {
    index: usize,
    model: LanguageModel,
    free: Option<FreeMemory>,
}

/// State of the device's thread.
pub struct Models<'s> {
    pub ready: Ready<'s>,
    loaded: Option<Loaded>,
    /// Loaded vectors by node and layer.
    vectors: HashMap<(usize, Layer), LayerVectors>,
}

impl Models<'_> {
    /// Returns a model, loading it if necessary; at most one model is loaded at a time.
    ///
    /// # Errors
    /// The model does not fit into memory, or cannot be read.
    pub fn model(&mut self, index: usize) -> Result<&LanguageModel> {
        let resolved = self.ready.resolved;
        let (model, device) = (&resolved.models[index], resolved.device.device);
        if self.loaded.as_ref().is_some_and(|loaded| loaded.index != index) {
            self.loaded = None; // frees the memory first
            heap::give_back();
        }
        if self.loaded.is_none() {
            let load = || format!("load {}", model.shown());
            if !resolved.offline {
                model.fetch(&Silent).with_context(load)?;
            }
            model.ensure_unchanged(self.ready.store)?;
            let free = FreeMemory::of(device);
            let model =
                LanguageModel::load(&model.checkpoint, model.dtype_policy(), device).with_context(load)?;
            self.loaded = Some(Loaded { index, model, free });
        }
        Ok(&self.loaded.as_ref().expect("just loaded").model)
    }

    /// The vectors of a set at `layers`.
    ///
    /// # Errors
    /// They are not cached.
    pub fn vectors(&mut self, set: &Set, layers: &[Layer]) -> Result<VectorSet> {
        let (plan, store) = (self.ready.plan, self.ready.store);
        let node = &plan.nodes[set.node];
        let model = &self.ready.resolved.models[set.model];
        let n_layers = model.spec.n_layers();
        let mut found = Vec::new();
        for &layer in layers {
            let own = match self.vectors.entry((set.node, layer)) {
                Place::Occupied(there) => there.into_mut(),
                Place::Vacant(place) => {
                    let unit = node.units.iter().find(|unit| unit.layer == Some(layer));
                    let unit = unit.with_context(|| format!("no vectors at layer {layer}"))?;
                    let Lookup::Hit(entry) = store.lookup(node.work.stage(), &unit.key)? else {
                        let message = format!(
                            "{} is not in the cache yet: `emoflow run` the experiment, or wait until the run has \
                             computed it",
                            node.name()
                        );
                        return Err(Refusal::busy(message).into());
                    };
                    let table = entry.read("vectors")?;
                    let read = VectorSet::from_tables(&model.name, &set.stories, n_layers, &[table])?;
                    place.insert(read.layers.into_iter().next().context("vectors of no layer")?)
                }
            };
            found.push(own.clone());
        }
        Ok(VectorSet { model: model.name.clone(), stories: set.stories.clone(), n_layers, layers: found })
    }

    /// The vectors that an entry of `steering` adds, `[layer, d_model]`.
    ///
    /// # Errors
    /// As [`Models::vectors`].
    pub fn addition(&mut self, steer: &Steer) -> Result<Vec<f32>> {
        let set = self.vectors(&steer.set, &steer.layers)?;
        let seed = self.ready.resolved.experiment.seed;
        let (emotion, n) = match &steer.direction {
            Direction::Emotion(emotion) => (emotion.clone(), 0),
            Direction::Random(number) => (steer.set.emotions[0].clone(), *number),
        };
        let all =
            live::as_in_rollouts(&set, &steer.layers, (&emotion, steer.strength), (seed, n)).map_err(bad)?;
        all.into_iter().next_back().context("nothing is added")
    }

    /// Generates the texts of `order` and sends an event for every token.
    ///
    /// # Errors
    /// A prompt exceeds the model's context; too little memory; the client has disconnected.
    pub fn write(&mut self, order: Order, teller: &Teller) -> Result<()> {
        self.write_after(order, Vec::new(), teller)
    }

    /// Same as [`Models::write`]; the pieces `first` are sent before any generated token.
    ///
    /// # Errors
    /// As [`Models::write`].
    pub fn write_after(&mut self, order: Order, first: Vec<Piece>, teller: &Teller) -> Result<()> {
        let Order { model, texts, sampling, stops, top, along } = order;
        self.model(model)?;
        let (resolved, Loaded { index, model, free }) =
            (self.ready.resolved, self.loaded.as_ref().expect("just loaded"));
        for text in &texts {
            let (n, wanted, context) = (text.ids.len(), sampling.max_new_tokens, model.spec.context);
            let fits = n < context || wanted == 0 && n <= context;
            ensure!(
                fits,
                Refusal::bad(format!("a prompt of {n} tokens fills the model's context of {context}"))
            );
        }
        let work = Memory::Generation { rows: texts.len(), max_new_tokens: sampling.max_new_tokens };
        let (policy, device) = (resolved.models[*index].dtype_policy(), resolved.device.device);
        memory::check(&model.spec, policy, work, device, free.as_ref())?;
        teller.tell(Event::Begun(texts.iter().map(|text| text.ids.len()).collect()))?;
        first.into_iter().try_for_each(|piece| teller.tell(Event::Token(piece)))?;
        let mut writers: Vec<Writer> = texts.iter().map(|_| Writer::default()).collect();
        let mut told = |told: live::Told| {
            if !told.traced.is_empty() {
                teller.tell(Event::Traced(told.traced))?;
            }
            let mut ended = Vec::new();
            for token in told.tokens {
                let text = token.text;
                let piece = writers[text].take(model, token, &stops, top.is_some() || along.is_some())?;
                if piece.finish.is_some() {
                    ended.push(text);
                }
                teller.tell(Event::Token(piece))?;
            }
            Ok(ended)
        };
        live::write(model, &texts, &sampling, (along.as_ref(), top), &mut told).map(drop)
    }
}

/// A text during generation.
#[derive(Default)]
struct Writer {
    ids: Vec<i64>,
    /// Number of bytes already sent.
    shown: usize,
    text: String,
}

impl Writer {
    /// Appends a token. Text that may be the beginning of a stop string, or an incomplete character that spans several
    /// tokens, is held back.
    fn take(&mut self, model: &LanguageModel, token: Token, stops: &[String], named: bool) -> Result<Piece> {
        let likely = named.then(|| Likely {
            name: model.token(token.id as u32),
            logprob: token.logprob.unwrap_or(0.0),
            likeliest: token.likeliest.iter().map(|&(id, p)| (model.token(id as u32), p)).collect(),
        });
        if !token.ends {
            self.ids.push(token.id);
            let whole = model.decode(&self.ids)?;
            // Some tokenizers change earlier text on decoding more tokens; text already sent is kept.
            if whole.starts_with(&self.text[..self.shown]) {
                self.text = whole;
            }
        }
        let mut finish = match (token.ends, token.is_last) {
            (true, _) => Some("stop"),
            (_, true) => Some("length"),
            _ => None,
        };
        let mut end = self.text.len();
        let found = stops.iter().filter_map(|stop| self.text[self.shown..].find(stop.as_str())).min();
        if let Some(at) = found {
            (end, finish) = (self.shown + at, Some("stop"));
        } else if finish.is_none() {
            end = self.shown + open(&self.text[self.shown..], stops);
        }
        let more = self.text[self.shown..end].to_string();
        self.shown = end;
        Ok(Piece { text: token.text, token: likely, more, finish, ends: token.ends, is_echo: false })
    }
}

/// Number of bytes of `text` that can be sent: without an incomplete character or the possible beginning of a stop
/// string.
fn open(text: &str, stops: &[String]) -> usize {
    let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
    let begins = |at: &usize| stops.iter().any(|stop| stop.starts_with(&text[*at..whole]));
    text.char_indices().map(|(at, _)| at).take_while(|&at| at < whole).find(begins).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_the_beginning_of_a_stop_is_held_back() {
        let stops = ["\n\n".to_string(), "User:".to_string()];
        assert_eq!(open("He said", &stops), 7);
        assert_eq!(open("He said\n", &stops), 7);
        assert_eq!(open("He said Use", &stops), 8);
        assert_eq!(open("He said Uses", &stops), 12);
        assert_eq!(open("caf\u{fffd}", &stops), 3);
        assert_eq!(open("", &stops), 0);
    }

    /// A job that uses no model.
    type Work = Box<dyn FnOnce(&Teller) -> Result<()> + Send>;

    /// Runs `ask` with a queue of such jobs.
    fn with_queue(ask: impl FnOnce(&dyn Fn(Work) -> Result<Live, Refusal>)) {
        let (queue, jobs) = sync_channel::<Box<dyn FnOnce() + Send>>(QUEUE);
        std::thread::scope(|scope| {
            scope.spawn(move || jobs.into_iter().for_each(|job| job()));
            let put = |job: Work| {
                let (teller, live) = Teller::new();
                queue.try_send(Box::new(move || teller.ends(|teller| job(teller)))).map_err(full)?;
                Ok(live)
            };
            ask(&put);
            drop(queue);
        });
    }

    /// An endless generation runs only as long as its client listens.
    #[test]
    fn a_client_that_goes_away_ends_its_request_and_the_next_one_has_its_turn() {
        with_queue(|put| {
            let endless = || -> Work {
                Box::new(|teller| {
                    loop {
                        teller.tell(Event::Said(Value::Null))?;
                    }
                })
            };
            let first = put(endless()).unwrap();
            assert!(matches!(first.events.recv(), Ok(Event::Said(_))));
            // A request dropped before its turn never starts.
            let never = put(Box::new(|_| panic!("nobody waits for this"))).unwrap();
            drop(never);
            let last = put(Box::new(|_| anyhow::bail!("its turn"))).unwrap();
            assert!(last.events.try_recv().is_err(), "the first one is still being done");
            drop(first);
            let Ok(Event::Failed(refusal)) = last.events.recv() else { panic!("no end") };
            assert_eq!((refusal.status, refusal.to_string()), (500, "its turn".to_string()));
        });
    }

    #[test]
    fn a_panic_is_said_and_ends_nothing_else() {
        with_queue(|put| {
            let broken = put(Box::new(|_| panic!("index out of bounds"))).unwrap();
            let Ok(Event::Failed(refusal)) = broken.events.recv() else { panic!("no end") };
            assert_eq!(refusal.to_string(), "a bug: index out of bounds");
            let fine = put(Box::new(|_| Ok(()))).unwrap();
            assert!(matches!(fine.events.recv(), Ok(Event::Ended)));
        });
    }
}
