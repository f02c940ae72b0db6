//! Cross-validated ridge classifiers over the stories of one layer, and the same under shuffled labels. Knows no table.

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

/// Stories on which shuffled labels are tried; of more, so many in equal distances.
const TRIED: usize = 1000;
/// Stories of which it is kept how each is classified: more than the report shows, and few enough for tables of many layers.
const TOLD: usize = 10_000;
/// Shuffles that are made together.
const BATCH: usize = 16;

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Settings {
    pub folds: usize,
    pub penalty: f64,
    pub permutations: usize,
    pub seed: u64,
}

/// What was found.
pub struct Found {
    /// Parts that the groups were dealt into.
    pub folds: usize,
    /// How many stories there are of each emotion in each group.
    pub design: Design,
    /// `[group, emotion]`: those of which the emotion was found.
    pub right: Vec<f64>,
    /// `[emotion, predicted]`: stories.
    pub confusion: Vec<f64>,
    /// The first [`TOLD`] stories, as they were classified by the classifier that had not seen their topic.
    pub stories: Vec<Told>,
    /// The accuracy on the stories that shuffles are tried on, and under each shuffle.
    pub tried: f64,
    pub shuffled: Vec<f64>,
}

/// A story, and how it is classified.
pub struct Told {
    pub id: String,
    pub emotion: usize,
    pub told: usize,
    /// Its own emotion's score less the largest of the others; scores of -1 and 1 were fitted.
    pub margin: f64,
}

/// One fold's classifier, made from all others.
struct Classifier {
    /// `[emotion, d]`, an emotion a row; column after column.
    weights: DMatrix<f64>,
    intercepts: Vec<f64>,
    /// What stories are counted from.
    mean: Vec<f64>,
    train: Products,
}

/// A story on which shuffles are tried.
struct Trial {
    emotion: usize,
    group: usize,
    row: Vec<f64>,
}

/// Fits and tries a classifier for every fold, see [`Design::fold`]. Reads the layer twice.
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
        // Counted from the first story, so that squares of what all have in common take no digits.
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

/// That of one fold, from the sums of the others.
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
    // Labels are 1 and -1, less their mean: the products with the rows are 2 (sum of the emotion - its share of all).
    for (row, count) in right.chunks_exact_mut(d).zip(&stories) {
        row.iter_mut().zip(&mean).for_each(|(x, m)| *x = 2.0 * (*x - count * m));
    }
    let weights = DMatrix::from_row_slice(n, d, &train.solve(settings.penalty, &right)?);
    let intercepts = stories.iter().map(|count| 2.0 * count / train.count - 1.0).collect();
    Ok(Classifier { weights, intercepts, mean, train })
}

impl Classifier {
    /// The emotion of each of `rows` (`[n, d]`), which are of the emotions `own`: the largest score; of several as large, the first;
    /// and the margin.
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

/// Rows of stories that are predicted together, and of each its group, emotion and place among all.
type Waiting = (Vec<f64>, Vec<(usize, usize, usize)>);

/// Predicts every story from the folds that it is not in, and keeps those that shuffles are tried on.
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
        // One of every all / TRIED.
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

/// The accuracy on the stories of `trials` under the true labels and under shuffled ones, of classifiers that are fitted to
/// these. With shuffled labels only the sums of each emotion change, not the products of the rows: what the solved system
/// makes of each story is computed once, and a shuffle is one product of matrices.
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
                    // The label that the story's cell was given.
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
