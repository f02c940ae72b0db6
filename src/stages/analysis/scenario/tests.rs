//! Scenarios in the demonstration model: choices compared with separate passes, texts compared with separate
//! generation, cached batches.

use std::collections::HashMap;
use std::path::Path;

use tch::{Device, Kind as TensorKind, Tensor};

use super::*;
use crate::interrupt::Interrupted;
use crate::lm::adapter::AdapterFiles;
use crate::lm::{Batch, Chat, Checkpoint, Dtype, Hook, LanguageModel, Message, Role, Sampling, Spans, Steer};
use crate::stages::analysis::{Rollouts, VectorSet};
use crate::stages::rollouts::Asked;
use crate::stages::rollouts::cells::{Cell, NONE, cells};
use crate::stages::rollouts::conversation::{messages, open};
use crate::stages::rollouts::write::{BATCH, seed};
use crate::stages::statistics::draws::Draws;
use crate::stages::{rollouts, scores};

fn model() -> LanguageModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    LanguageModel::load(&Checkpoint::open(&folder).unwrap(), Dtype::F32, Device::Cpu).unwrap()
}

fn set(blocks: &[usize]) -> VectorSet {
    random(blocks, &["calm".into(), "angry".into()])
}

/// Vectors of standard normal numbers.
fn random(blocks: &[usize], emotions: &[String]) -> VectorSet {
    let mut draws = Draws::new("scenario test", &[1]);
    let layer = |block: &usize| {
        let vectors: Vec<f64> = (0..emotions.len() * 192).map(|_| draws.normal()).collect();
        LayerVectors {
            layer: Layer::Block(*block),
            emotions: emotions.to_vec(),
            d_model: 192,
            raw: vectors.clone(),
            vectors,
            n_stories: vec![1; emotions.len()],
            resid_norm: 30.0,
        }
    };
    VectorSet {
        model: "demo".into(),
        stories: "own".into(),
        n_layers: 4,
        layers: blocks.iter().map(layer).collect(),
    }
}

fn input<'a>(
    model: &'a LanguageModel,
    set: &'a VectorSet,
    progress: &'a mut crate::stages::analysis::Progress<'a>,
) -> Input<'a> {
    Input {
        set,
        activations: None,
        reads: None,
        spans: None,
        rollouts: None,
        model: Some(model),
        chat: Chat::default(),
        seed: 5,
        progress,
    }
}

/// Two short cases and a control.
fn small(evidence: Evidence) -> Scenario {
    let text = r#"
        about = "a test"
        system = "Be brief."
        [[cases]]
        name = "one"
        turns = ["Who is there?", "Open the door, {name}."]
        replies = ["Nobody."]
        values = { name = ["Ann", "Ben"] }
        [[cases]]
        name = "control"
        control = true
        turns = ["Hello.", "Shut the door."]
        replies = ["Hello."]
        [choices]
        question = "Do it?\n{options}"
        options = [{ text = "Yes.", act = true }, { text = "No." }, { text = "Later." }]
        [[outcomes]]
        name = "an e"
        act = true
        any = ["e"]
        [[outcomes]]
        name = "none"
    "#;
    let content: Set = toml::from_str(text).unwrap();
    Scenario { content, evidence, strength: vec![0.5, -0.5], ..Scenario::plain("refusal") }
}

/// The hooks of one cell on one conversation.
fn hooks(cell: &Cell, layers: &[Layer], spans: &[std::ops::Range<usize>]) -> Vec<Steer> {
    let each = cell.vector.len() / layers.len();
    let steer = |(at, &layer): (usize, &Layer)| Steer {
        layer,
        vector: Tensor::from_slice(&cell.vector[at * each..(at + 1) * each]),
        strength: 1.0,
        spans: Spans::Each(vec![spans.to_vec()]),
    };
    if cell.vector.is_empty() { Vec::new() } else { layers.iter().enumerate().map(steer).collect() }
}

#[test]
fn choices_are_those_of_passes_of_their_own() {
    let (model, set) = (model(), set(&[1, 2]));
    let layers = [Layer::Block(1), Layer::Block(2)];
    for positions in [Positions::All, Positions::Prompt, Positions::Generated] {
        let params = Scenario { positions, ..small(Evidence::Choices) };
        let tables =
            params.run_in_batches(input(&model, &set, &mut |_, _| {}), &mut |_: usize, _: usize| {}).unwrap();
        let all = cells(&params.steering(), &set.layers.iter().collect::<Vec<_>>(), 5).unwrap();
        let (summary, each) = (&tables[0].1, &tables[1].1);
        assert_eq!((summary.rows(), each.rows()), (4, 3 * all.len()));
        let (steered, strength, case) =
            (each.str("steered").unwrap(), each.f64("strength").unwrap(), each.str("case").unwrap());
        let choices = params.content.choices.as_ref().unwrap();
        for row in (0..each.rows()).step_by(5) {
            let cell = all.iter().find(|c| c.steered == steered[row] && c.strength == strength[row]).unwrap();
            let asked = params.content.asked().into_iter().find(|asked| asked.name == case[row]).unwrap();
            let mut mean = 0.0;
            for order in 0..3 {
                let text = |place: usize| &choices.options[(place + order) % 3].text;
                let options = format!("(A) {}\n(B) {}\n(C) {}", text(0), text(1), text(2));
                let last = format!("{}\n\nDo it?\n{options}", asked.turns[1]);
                let turns = [
                    Message::new(Role::System, "Be brief."),
                    Message::new(Role::User, asked.turns[0].as_str()),
                    Message::new(Role::Assistant, asked.replies[0].as_str()),
                    Message::new(Role::User, last),
                ];
                let ids = |text: &str| model.encode(text).unwrap().ids;
                let opened = rendered(&model, &turns);
                let (answered, prompt) = (ids(&format!("{opened}(")), ids(&opened).len());
                let before = rendered(&model, &turns[..2]);
                let first = ids(&before).len() - 1..ids(&format!("{before}{}", asked.replies[0])).len();
                let spans = match positions {
                    Positions::All => vec![0..usize::MAX],
                    Positions::Prompt => vec![0..prompt],
                    Positions::Generated => vec![first.clone(), prompt - 1..usize::MAX],
                };
                let mut own = hooks(cell, &layers, &spans);
                let mut own: Vec<&mut dyn Hook> = own.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
                let resid = model.forward(&Batch::new(&[&answered]).unwrap(), &mut own, None).unwrap();
                let logs = model.logits(&resid.get(0).get(-1)).log_softmax(-1, TensorKind::Double);
                let p = |letter: &str| {
                    let ids = model.encode(letter).unwrap();
                    logs.double_value(&[ids.ids[ids.text.start]]).exp()
                };
                let letters = ["A", "B", "C"].map(p);
                let act = (3 - order) % 3; // where the first option stands
                let other: f64 = letters.iter().sum::<f64>() - letters[act];
                mean += (letters[act] / other).ln() / 3.0;
            }
            let found = each.f64("logodds").unwrap()[row];
            assert!(
                (found - mean).abs() < 1e-4,
                "{positions:?} {} {}: {found} is not {mean}",
                steered[row],
                case[row]
            );
        }
        // Each cell is the mean over the two cases with grounds; the control is separate.
        let of = |name: &str, at: f64, control: bool| {
            let rows = (0..each.rows()).filter(|&row| {
                steered[row] == name && strength[row] == at && each.bool("control").unwrap()[row] == control
            });
            let values: Vec<f64> = rows.map(|row| each.f64("logodds").unwrap()[row]).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        for row in 0..4 {
            let (name, at) = (&summary.str("steered").unwrap()[row], summary.f64("strength").unwrap()[row]);
            let effect = of(name, at, false) - of(NONE, 0.0, false);
            assert!((summary.f64("effect").unwrap()[row] - effect).abs() < 1e-9);
            let control = of(name, at, true) - of(NONE, 0.0, true);
            assert!((summary.opt_f64("control_effect").unwrap()[row].unwrap() - control).abs() < 1e-9);
            assert!(summary.opt_f64("p").unwrap()[row].unwrap() >= 0.25, "of three random directions");
            assert_eq!(summary.opt_f64("low").unwrap()[row], None, "of two cases");
        }
        assert!(!params.figures("x", &tables).unwrap().is_empty());
        assert_eq!(params.claims(&tables).unwrap().len(), 4);
    }
}

/// In the model with a behaviour planted along one direction, 400 other random directions take the place of emotions:
/// their p, among 399 random directions, is small at its nominal rate.
#[test]
fn directions_without_an_effect_are_found_at_the_stated_rate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let planted = root.join("demo-planted");
    let adapter = AdapterFiles::open(&planted, &[]).unwrap();
    let checkpoint = Checkpoint::open(&root.join("demo")).unwrap().with_adapter(adapter);
    let model = LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).unwrap();
    let mut content = set::of_file(&planted.join("door.toml")).unwrap();
    content.cases[0].values.values_mut().for_each(|values| values.truncate(1));
    let set = random(&[2], &(0..400).map(|number| format!("direction {number}")).collect::<Vec<_>>());
    let params = Scenario { content, random: 399, ..Scenario::plain("refusal") };
    let tables =
        params.run_in_batches(input(&model, &set, &mut |_, _| {}), &mut |_: usize, _: usize| {}).unwrap();
    let p = tables[0].1.opt_f64("p").unwrap();
    assert_eq!(p.len(), 400);
    // scipy.stats.betabinom(400, 400 * bound, 400 - 400 * bound): its .0005th and .9995th quantile.
    for (bound, low, high) in [(0.05, 4, 45), (0.2, 46, 120), (0.5, 154, 246)] {
        let below = p.iter().filter(|p| p.unwrap() <= bound).count();
        assert!((low..=high).contains(&below), "{below} of 400 have p <= {bound}");
    }
}

#[test]
fn what_there_is_to_do_and_to_see_is_counted() {
    // 13 cells: the unsteered one, and (2 + 4) x 2.
    let params = Scenario { random: 4, ..small(Evidence::Choices) };
    assert_eq!(params.amount(2).unwrap(), "117 questions: 13 cells x 3 cases x 3 orders");
    let texts = Some(Texts { samples: 25, max_new_tokens: 100, temperature: 1.0, top_p: 1.0 });
    let params = Scenario { texts, ..Scenario { random: 4, ..small(Evidence::Pattern) } };
    // Two of the three cases have grounds for the act: 50 texts.
    let wanted = "with 50 texts per cell (without controls), an increase is detected with a power of 80 % from 0 % from 14 % on, \
                  from 22 % from 48 % on";
    assert_eq!(params.amount(2).unwrap(), wanted);
    let (writing, _) = params.writes().unwrap();
    let wanted = "975 texts: 13 cells x 3 cases x 25 samples, at most 97500 tokens";
    assert_eq!(writing.amount(2), wanted);
    assert_eq!(writing.of_case(2), 13 * 25);
}

/// Batches cached in memory, with an interruption after some of them.
#[derive(Default)]
struct Memory {
    kept: HashMap<usize, Table>,
    written: usize,
    stop_at: Option<usize>,
}

impl Batches for Memory {
    fn at(&mut self, _: usize, _: usize) {}

    fn stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| self.written >= at)
    }

    fn kept(&mut self, number: usize, _: &str) -> Result<Option<Table>> {
        Ok(self.kept.get(&number).cloned())
    }

    fn keep(&mut self, number: usize, table: &Table) -> Result<()> {
        self.written += 1;
        self.kept.insert(number, table.clone());
        Ok(())
    }
}

#[test]
fn texts_are_those_of_generation_by_itself_and_go_on_after_a_stop() {
    let (model, set) = (model(), set(&[2]));
    // Both answers are generated by the model.
    let texts = Some(Texts { samples: 7, max_new_tokens: 8, temperature: 1.0, top_p: 1.0 });
    let mut params = Scenario { texts, positions: Positions::Generated, ..small(Evidence::Pattern) };
    params.content.choices = None;
    params.content.cases.iter_mut().for_each(|case| case.replies.clear());
    let (writing, scorer) = params.writes().unwrap();
    let write = |case: &Asked, batches: &mut Memory| {
        rollouts::run(&writing, case, &set, (&model, Chat::default()), 5, batches)
    };
    let all = cells(&params.steering(), &[&set.layers[0]], 5).unwrap();
    let n = 3 * all.len() * 7;
    let mut written = Vec::new();
    for case in &writing.cases {
        let mut whole = Memory::default();
        let table = write(case, &mut whole).unwrap();
        assert_eq!(whole.written, (all.len() * 7).div_ceil(BATCH));
        let mut stopped = Memory { stop_at: Some(1), ..Memory::default() };
        assert!(write(case, &mut stopped).unwrap_err().is::<Interrupted>());
        stopped.stop_at = None;
        assert_eq!(write(case, &mut stopped).unwrap(), table);
        assert_eq!(stopped.written, whole.written, "nothing was written twice");
        let Scorer::Pattern(outcomes) = &scorer else { panic!("patterns") };
        let scores = scores::by_pattern(outcomes, &table).unwrap();
        written.push((table, scores));
    }
    let read = |case: usize| Ok(written[case].clone());
    let rollouts = Some(Rollouts { count: written.len(), read: &read });
    let progress = &mut |_: usize, _: usize| {};
    let tables = params.run(Input { rollouts, model: None, ..input(&model, &set, progress) }).unwrap();
    // One conversation by itself: the same tokens, whatever the other rows of the batch are.
    let samples = &tables[2].1;
    assert_eq!(samples.rows(), n);
    let asked = params.content.asked();
    let sampling = Sampling { max_new_tokens: 8, temperature: 1.0, top_k: 0, top_p: 1.0 };
    for row in (0..n).step_by(23) {
        let (steered, strength) =
            (&samples.str("steered").unwrap()[row], samples.f64("strength").unwrap()[row]);
        let cell = all.iter().find(|c| c.steered == *steered && c.strength == strength).unwrap();
        let case = asked.iter().find(|asked| asked.name == samples.str("case").unwrap()[row]).unwrap();
        let sample = samples.i32("sample").unwrap()[row] as usize - 1;
        let mut replies = Vec::new();
        for turn in 0..2 {
            let messages = messages(case, &replies, "");
            let opened = open(&model, &messages, "", params.positions, Chat::default()).unwrap();
            let mut own = hooks(cell, &[Layer::Block(2)], &opened.spans);
            let mut own: Vec<&mut dyn Hook> = own.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
            let seed = seed(5, &case.name, sample, turn);
            let of_first = samples.str("seed").unwrap()[row].clone();
            assert!(turn > 0 || of_first == seed.to_string());
            let written = model.generate(&[opened.ids], &sampling, &[seed], &mut own, &mut |_| {}).unwrap();
            replies.push(model.decode(&written[0]).unwrap());
        }
        assert_eq!(samples.str("text").unwrap()[row], replies[1], "{steered} {strength} {}", case.name);
        assert_eq!(samples.str("earlier").unwrap()[row], replies[0]);
    }
    // Counts match the samples.
    let counts = &tables[1].1;
    let total: i32 = counts.i32("count").unwrap().iter().sum();
    assert_eq!(total as usize, n);
    let outcome = samples.str("outcome").unwrap();
    let of = |name: &str| outcome.iter().filter(|outcome| *outcome == name).count();
    assert!(of("an e") > 0, "some texts hold an e");
    assert!(!params.figures("x", &tables).unwrap().is_empty());
}

/// The turns as formatted by the chat template, with the model's turn opened.
fn rendered(model: &LanguageModel, turns: &[Message]) -> String {
    model.tokenizer().render_chat(turns, true, Chat::default()).unwrap()
}

/// Six cases of ten texts each without and with steering. The probability of the act differs between cases; steering
/// raises it by `change` in all of them.
fn drawn(seed: u64, change: f64) -> samples::Samples {
    let mut draws = Draws::new("scenario shares", &[seed]);
    let mut uniform = || draws.below(1_000_000) as f64 / 1e6;
    let first = small(Evidence::Pattern).content.asked().remove(0);
    let cases: Vec<Asked> =
        (0..6).map(|case| Asked { name: format!("case {case}"), ..first.clone() }).collect();
    let mut all = Vec::new();
    for case in 0..cases.len() {
        let rate = 0.1 + 0.5 * uniform();
        for (cell, more) in [0.0, change].into_iter().enumerate() {
            for number in 1..=10 {
                let act = uniform() < rate + more;
                all.push(samples::Sample {
                    id: format!("{case}-{cell}-{number}"),
                    case,
                    cell,
                    number,
                    seed: String::new(),
                    outcome: if act { "yes" } else { "no" }.into(),
                    act,
                    evidence: String::new(),
                    ended: "end".into(),
                    tokens: 1,
                    text: String::new(),
                    earlier: Vec::new(),
                });
            }
        }
    }
    samples::Samples { cells: vec![(NONE.into(), 0.0), ("angry".into(), 0.1)], cases, all }
}

#[test]
fn intervals_of_shares_hold_what_is_true_as_often_as_they_say() {
    let set = set(&[2]);
    let params = Scenario { bootstrap: 200, ..small(Evidence::Pattern) };
    let outcomes = [("yes", true), ("no", false)];
    for change in [0.0, 0.3] {
        let (mut missed, mut sum) = (0, 0.0);
        for seed in 0..400 {
            let samples = drawn(seed, change);
            let place = (&set, Layer::Block(2));
            let tables = outcomes::tables(&params, place, &samples, &outcomes, seed).unwrap();
            let table = &tables[0].1;
            let [low, high] = ["low", "high"].map(|end| table.opt_f64(end).unwrap()[0].unwrap());
            missed += usize::from(change < low || change > high);
            sum += table.f64("effect").unwrap()[0];
            assert_eq!(table.str("method").unwrap()[0], outcomes::WIDER);
        }
        assert!(missed <= 24, "{missed} of 400 intervals of 95 % miss {change}");
        assert!((sum / 400.0 - change).abs() < 0.02, "{} is not {change}", sum / 400.0);
    }
}

/// The caption of the dose curve of samples modified by `change`.
fn caption(change: &dyn Fn(&mut samples::Sample)) -> String {
    let mut samples = drawn(1, 0.0);
    samples.all.iter_mut().for_each(change);
    let (set, params) = (set(&[2]), Scenario { bootstrap: 20, ..small(Evidence::Pattern) });
    let outcomes = [("yes", true), ("no", false), (crate::stages::scores::CUT, false)];
    let tables = outcomes::tables(&params, (&set, Layer::Block(2)), &samples, &outcomes, 1).unwrap();
    params.figures("x", &tables).unwrap().remove(0).caption
}

#[test]
fn floors_ceilings_and_texts_that_were_cut_off_are_said() {
    let all = |act: bool| {
        move |sample: &mut samples::Sample| {
            (sample.act, sample.outcome) = (act, if act { "yes" } else { "no" }.into());
        }
    };
    // Clopper-Pearson for 0 of 60: 1 - .025^(1/60) is 5.96 %.
    let floor = caption(&all(false));
    assert!(
        floor.contains(
            "A floor: without steering 0 of 60 texts are the act, so that its share is at most 6.0 %"
        ),
        "{floor}"
    );
    let ceiling = caption(&all(true));
    assert!(ceiling.contains("A ceiling") && ceiling.contains("at least 94.0 %"), "{ceiling}");
    let cut = |every: i32| {
        move |sample: &mut samples::Sample| {
            if sample.cell == 1 && sample.number % every == 0 {
                (sample.act, sample.outcome) = (false, crate::stages::scores::CUT.into());
            }
        }
    };
    // One text in ten of a cell is truncated; none is.
    assert!(
        caption(&cut(10)).contains("In some cells 10 % of the texts were truncated: raise `max_new_tokens`")
    );
    assert!(!caption(&cut(99)).contains("truncated"));
}
