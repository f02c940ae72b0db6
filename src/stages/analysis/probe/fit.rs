//! Cross-validated ridge classifiers over the stories of one layer, and the same under shuffled labels. Independent of
//! the tables.

use anyhow::{Result, ensure};
use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

use super::ridge::{Products, ROWS};
use crate::stages::analysis::{Activations, Progress};
use crate::stages::principal::dot;
use crate::stages::read;
use crate::stages::statistics::Design;
use crate::stages::statistics::design::Shuffle;
use crate::stages::statistics::sums::Sums;

/// The number of stories on which shuffled labels are evaluated; if there are more, this many at equal distances.
const TRIED: usize = 1000;
/// The number of stories for which the individual prediction is kept: more than the report shows, and few enough for
/// tables of many layers.
const TOLD: usize = 10_000;
/// Shuffles computed together.
const BATCH: usize = 16;

/// The parameters of a fit.
#[derive(Clone, Copy)]
pub struct Settings {
    pub folds: usize,
    pub penalty: f64,
    pub permutations: usize,
    pub seed: u64,
}

/// The results of a fit.
pub struct Found {
    /// The number of folds that the groups were assigned to.
    pub folds: usize,
    /// The number of stories of each emotion in each group.
    pub design: Design,
    /// `[group, emotion]`: the number of correctly classified stories.
    pub right: Vec<f64>,
    /// `[emotion, predicted]`: numbers of stories.
    pub confusion: Vec<f64>,
    /// The first [`TOLD`] stories with their predictions by the classifier that was not trained on their topic.
    pub stories: Vec<Told>,
    /// The accuracy on the stories that shuffles are evaluated on, with the true labels and under each shuffle.
    pub tried: f64,
    pub shuffled: Vec<f64>,
}

/// A story with its prediction.
pub struct Told {
    pub id: String,
    pub emotion: usize,
    pub told: usize,
    /// Its own emotion's score minus the largest of the others; the classifier was fitted to scores of -1 and 1.
    pub margin: f64,
}

/// The classifier of one fold, fitted to all other folds.
struct Classifier {
    /// `[emotion, d]`, one row per emotion; column-major.
    weights: DMatrix<f64>,
    intercepts: Vec<f64>,
    /// The mean that is subtracted from stories.
    mean: Vec<f64>,
    train: Products,
}

/// A story on which shuffles are evaluated.
struct Trial {
    emotion: usize,
    group: usize,
    row: Vec<f64>,
}

/// Fits and evaluates a classifier for every fold, see [`Design::fold`]. Reads the layer twice.
///
/// An error if there are fewer than two groups.
pub fn fit(
    activations: &Activations,
    emotions: &[String],
    settings: Settings,
    progress: &mut Progress,
) -> Result<Found> {
    let (n, k) = (emotions.len(), settings.folds);
    let mut first: Vec<f64> = Vec::new();
    let mut folds: Vec<Products> = Vec::new();
    let mut waiting: Vec<Vec<f64>> = vec![Vec::new(); k];
    let mut sums = Sums::new(n);
    let design = read::each(activations.shards(), emotions, settings.seed, &|_| true, &mut |row| {
        if first.is_empty() {
            first = row.wide().collect();
            folds = vec![Products::new(first.len()); k];
        }
        let d = first.len();
        ensure!(row.values.len() == d, "activations of different widths");
        let fold = Design::fold(row.group, k);
        // Values are relative to the first story, so that squares of the common part do not cost digits.
        let rows = &mut waiting[fold];
        let from = rows.len();
        rows.extend(row.wide().zip(&first).map(|(x, f)| x - f));
        sums.add(row.group, row.emotion, d, rows[from..].iter().copied())?;
        if rows.len() >= ROWS * d {
            folds[fold].add(rows);
            rows.clear();
        }
        Ok(())
    })?;
    let groups = design.groups();
    ensure!(groups >= 2, "a probe needs stories of at least two topics or passages: there is one");
    folds
        .iter_mut()
        .zip(&waiting)
        .filter(|(_, rows)| !rows.is_empty())
        .for_each(|(fold, rows)| fold.add(rows));
    drop(waiting);
    let there: Vec<usize> = (0..k.min(groups)).collect();
    let classifiers = there.iter().map(|&fold| classifier(&folds, fold, &sums, &design, settings));
    let classifiers = classifiers.collect::<Result<Vec<_>>>()?;
    drop(folds);

    let mut found = Found {
        folds: there.len(),
        right: vec![0.0; design.counts().len()],
        design,
        confusion: vec![0.0; n * n],
        stories: Vec::new(),
        tried: 0.0,
        shuffled: Vec::new(),
    };
    let trials = predict(activations, emotions, &first, &classifiers, &mut found)?;
    shuffle(settings, &classifiers, sums, &trials, &mut found, progress)?;
    Ok(found)
}

/// The classifier of one fold, from the sums of the others.
fn classifier(
    folds: &[Products],
    fold: usize,
    sums: &Sums,
    design: &Design,
    settings: Settings,
) -> Result<Classifier> {
    let train = Products::without(folds, fold);
    let (mean, d) = (train.mean(), train.sum.len());
    let n = design.labels();
    let (mut right, mut stories) = (vec![0.0; n * d], vec![0.0; n]);
    let sums = sums.groups().iter().enumerate();
    for (group, sum) in sums.filter(|(group, _)| Design::fold(*group, settings.folds) != fold) {
        right.iter_mut().zip(sum).for_each(|(a, b)| *a += b);
        stories.iter_mut().zip(&design.counts()[group * n..]).for_each(|(a, b)| *a += b);
    }
    // Labels are 1 and -1, minus their mean: the products with the rows are 2 (sum of the emotion - its share of the
    // total).
    for (row, count) in right.chunks_exact_mut(d).zip(&stories) {
        row.iter_mut().zip(&mean).for_each(|(x, m)| *x = 2.0 * (*x - count * m));
    }
    let weights = DMatrix::from_row_slice(n, d, &train.solve(settings.penalty, &right)?);
    let intercepts = stories.iter().map(|count| 2.0 * count / train.count - 1.0).collect();
    Ok(Classifier { weights, intercepts, mean, train })
}

impl Classifier {
    /// The predicted emotion of each of `rows` (`[n, d]`), whose true emotions are `own`, by the largest score, ties
    /// to the first; and the margin.
    fn predict(&self, rows: &[f64], own: impl Iterator<Item = usize>) -> Vec<(usize, f64)> {
        let d = self.mean.len();
        let mut rows = rows.to_vec();
        rows.chunks_exact_mut(d).for_each(|row| row.iter_mut().zip(&self.mean).for_each(|(x, m)| *x -= m));
        let scores = &self.weights * DMatrixView::from_slice(&rows, d, rows.len() / d);
        let scored = scores.column_iter().zip(own).map(|(column, own)| {
            let scores: Vec<f64> =
                column.iter().zip(&self.intercepts).map(|(score, intercept)| score + intercept).collect();
            let others = (0..scores.len()).filter(|&at| at != own).map(|at| scores[at]);
            (largest(scores.iter().copied()), scores[own] - others.fold(f64::NEG_INFINITY, f64::max))
        });
        scored.collect()
    }
}

fn largest(scores: impl Iterator<Item = f64>) -> usize {
    let better = |best: (usize, f64), (at, score)| if score > best.1 { (at, score) } else { best };
    scores.enumerate().fold((0, f64::NEG_INFINITY), better).0
}

/// Rows of stories that are predicted together, with the group, emotion and overall index of each.
type Waiting = (Vec<f64>, Vec<(usize, usize, usize)>);

/// Predicts every story by the classifier of its own fold, which was not fitted to it, and keeps those that shuffles
/// are evaluated on.
fn predict(
    activations: &Activations,
    emotions: &[String],
    first: &[f64],
    classifiers: &[Classifier],
    found: &mut Found,
) -> Result<Vec<Vec<Trial>>> {
    let (n, d, k) = (emotions.len(), first.len(), classifiers.len());
    let all = found.design.counts().iter().sum::<f64>() as usize;
    let mut trials: Vec<Vec<Trial>> = (0..k).map(|_| Vec::new()).collect();
    let mut waiting: Vec<Waiting> = vec![Default::default(); k];
    let mut number = 0;
    let mut told: Vec<(usize, f64)> = vec![(0, 0.0); all.min(TOLD)];
    let mut stories: Vec<(String, usize)> = Vec::new();
    let mut flush = |fold: usize, (rows, of): &mut Waiting| {
        let predict = |(rows, of): (&[f64], &[(usize, usize, usize)])| {
            classifiers[fold].predict(rows, of.iter().map(|&(_, emotion, _)| emotion))
        };
        let predicted: Vec<(usize, f64)> =
            rows.par_chunks(32 * d).zip(of.par_chunks(32)).flat_map_iter(predict).collect();
        for (&(group, emotion, story), (predicted, margin)) in of.iter().zip(predicted) {
            found.right[group * n + emotion] += f64::from(u8::from(predicted == emotion));
            found.confusion[emotion * n + predicted] += 1.0;
            if let Some(told) = told.get_mut(story) {
                *told = (predicted, margin);
            }
        }
        rows.clear();
        of.clear();
    };
    read::each(activations.shards(), emotions, 0, &|_| true, &mut |row| {
        let fold = Design::fold(row.group, k);
        let values = row.wide().zip(first).map(|(x, f)| x - f);
        let (rows, of) = &mut waiting[fold];
        let from = rows.len();
        rows.extend(values);
        of.push((row.group, row.emotion, number));
        if number < TOLD {
            stories.push((row.id.to_string(), row.emotion));
        }
        // One in every all / TRIED.
        let tried = |number: usize| number * TRIED.min(all) / all;
        if tried(number + 1) > tried(number) {
            trials[fold].push(Trial { emotion: row.emotion, group: row.group, row: rows[from..].to_vec() });
        }
        number += 1;
        if rows.len() >= ROWS * d {
            flush(fold, &mut waiting[fold]);
        }
        Ok(())
    })?;
    (0..k).for_each(|fold| flush(fold, &mut waiting[fold]));
    let all = stories.into_iter().zip(told);
    found.stories = all.map(|((id, emotion), (told, margin))| Told { id, emotion, told, margin }).collect();
    Ok(trials)
}

/// The accuracy on the stories of `trials` under the true labels and under shuffled ones, by classifiers fitted to
/// these labels. Shuffled labels change only the sums of each emotion, not the products of the rows: the solution of
/// the system for each story is computed once, and a shuffle is one matrix product.
fn shuffle(
    settings: Settings,
    classifiers: &[Classifier],
    mut sums: Sums,
    trials: &[Vec<Trial>],
    found: &mut Found,
    progress: &mut Progress,
) -> Result<()> {
    let (k, d) = (classifiers.len(), classifiers[0].mean.len());
    let design = found.design.clone();
    let n = design.labels();
    let mean = sums.mean(&design);
    sums.shift(&design, &mean, |_| {});
    let cells = sums.cells();
    drop(sums);
    let solved = trials.iter().zip(classifiers).map(|(trials, classifier)| {
        let rows: Vec<f64> = trials
            .iter()
            .flat_map(|trial| trial.row.iter().zip(&classifier.mean).map(|(x, m)| x - m))
            .collect();
        if rows.is_empty() {
            return Ok((DMatrix::zeros(0, d), Vec::new()));
        }
        let solved = classifier.train.solve(settings.penalty, &rows)?;
        let from: Vec<f64> = classifier.mean.iter().zip(&mean).map(|(a, b)| a - b).collect();
        let along = solved.chunks_exact(d).map(|row| dot(row, &from)).collect();
        let solved: Vec<f32> = solved.iter().map(|&x| x as f32).collect();
        Ok((DMatrix::from_row_slice(trials.len(), d, &solved), along))
    });
    let solved = solved.collect::<Result<Vec<(DMatrix<f32>, Vec<f64>)>>>()?;
    let in_fold = |fold: usize, wanted: bool| {
        let groups = 0..design.groups();
        groups.filter(|&group| (Design::fold(group, k) == fold) == wanted).collect::<Vec<_>>()
    };
    let of_fold: Vec<Vec<usize>> = (0..k).map(|fold| in_fold(fold, true)).collect();

    let accuracies = |shuffles: &[Shuffle]| -> Vec<f64> {
        let parts: Vec<_> = of_fold.iter().map(|groups| cells.shuffled(shuffles, groups)).collect();
        let accuracy = |(at, shuffle): (usize, &Shuffle)| {
            let parts: Vec<Vec<f32>> = parts.iter().map(|part| part.of(at)).collect();
            let mut whole = vec![0f32; n * d];
            parts.iter().for_each(|part| whole.iter_mut().zip(part).for_each(|(w, x)| *w += x));
            let (mut right, mut tried) = (0, 0);
            for (fold, ((rows, along), trials)) in solved.iter().zip(trials).enumerate() {
                let stories = design.stories_shuffled(shuffle, &in_fold(fold, false));
                let total: f64 = stories.iter().sum();
                let train: Vec<f32> = whole.iter().zip(&parts[fold]).map(|(w, x)| w - x).collect();
                let scores = rows * DMatrixView::from_slice(&train, d, n);
                for (at, trial) in trials.iter().enumerate() {
                    let score = |label: usize| {
                        let along = f64::from(scores[(at, label)]) - stories[label] * along[at];
                        2.0 * along + 2.0 * stories[label] / total
                    };
                    let predicted = largest((0..n).map(score));
                    // The label assigned to the story's cell.
                    right += usize::from(shuffle.from(predicted, trial.group) == trial.emotion);
                    tried += 1;
                }
            }
            f64::from(right as u32) / f64::from(tried as u32)
        };
        shuffles.par_iter().enumerate().map(accuracy).collect()
    };
    found.tried = accuracies(&[design.unshuffled()])[0];
    for from in (0..settings.permutations).step_by(BATCH) {
        let numbers = from..settings.permutations.min(from + BATCH);
        progress(numbers.end, settings.permutations);
        let shuffles: Vec<_> = numbers.map(|number| design.shuffle(number)).collect();
        found.shuffled.extend(accuracies(&shuffles));
    }
    Ok(())
}
