//! Gradients of several batches in parallel, one thread each. Independent of optimizers and corpora.
//!
//! Every worker has its own leaf tensors over the shared storage of the weights, so that gradients are separate and
//! weights are never copied. Workers wait while the weights are updated. Torch itself uses one thread per worker: with
//! tensors this small, more threads would mostly wait for each other.

use crate::model::Model;
use anyhow::{Context, Result};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tch::Tensor;

/// Threads that compute gradients of one model.
pub struct Workers {
    lines: Vec<(Sender<Tensor>, Receiver<Gradients>)>,
}

/// The result of one batch: the loss, and a gradient for each weight.
struct Gradients {
    loss: f64,
    of_weights: Vec<Tensor>,
}

impl Workers {
    /// Starts `n` threads on the weights of `model`.
    ///
    /// # Errors
    /// The model cannot be built over those weights.
    pub fn start(model: &Model, n: usize) -> Result<Workers> {
        tch::set_num_threads(1);
        let mut lines = Vec::with_capacity(n);
        for _ in 0..n {
            let replica = model.sharing_weights()?;
            let (to_worker, batches) = channel();
            let (from_worker, gradients) = channel();
            thread::spawn(move || serve(&replica, &batches, &from_worker));
            lines.push((to_worker, gradients));
        }
        Ok(Workers { lines })
    }

    /// Mean loss of the batches, one per worker, and the mean gradient of each weight. The sum is taken in the order
    /// of the batches, so it does not depend on which worker finishes first.
    ///
    /// # Errors
    /// A worker has panicked.
    pub fn gradients(&self, batches: Vec<Tensor>) -> Result<(f64, Vec<Tensor>)> {
        for ((to_worker, _), batch) in self.lines.iter().zip(batches) {
            to_worker.send(batch).ok().context("a worker is gone")?;
        }
        let share = 1.0 / self.lines.len() as f64;
        let mut sum: Option<Gradients> = None;
        for (_, from_worker) in &self.lines {
            let next = from_worker.recv().context("a worker is gone")?;
            sum = Some(match sum {
                None => next,
                Some(mut sum) => {
                    sum.loss += next.loss;
                    for (total, part) in sum.of_weights.iter_mut().zip(&next.of_weights) {
                        let _ = total.g_add_(part);
                    }
                    sum
                }
            });
        }
        let mut sum = sum.context("there are no workers")?;
        for total in &mut sum.of_weights {
            let _ = total.g_mul_scalar_(share);
        }
        Ok((sum.loss * share, sum.of_weights))
    }
}

fn serve(model: &Model, batches: &Receiver<Tensor>, gradients: &Sender<Gradients>) {
    for batch in batches {
        let loss = model.loss(&batch);
        let of_weights = Tensor::run_backward(&[&loss], model.weights(), false, false);
        if gradients.send(Gradients { loss: loss.double_value(&[]), of_weights }).is_err() {
            return;
        }
    }
}
