//! Models that are read again with other arithmetic, to see how far that moves what is claimed. Opens no file.

use super::Model;
use crate::config::Experiment;
use crate::lm::Dtype;
use crate::stages::analysis::steering::nearest_two_thirds;

/// Of each model whose arithmetic is not in f32 one whose is, and itself, to be given the same stories. Of the others, where they
/// are compared with such a model, itself.
pub(super) fn of(experiment: &Experiment, models: &[Model]) -> Vec<Model> {
    let is_rounded = |model: &Model| model.compute_dtype != Dtype::F32;
    if experiment.check_precision == 0 || !models.iter().any(is_rounded) {
        return Vec::new();
    }
    let read_again = |(at, model): (usize, &Model)| {
        let mut dtypes = vec![model.compute_dtype];
        match is_rounded(model) {
            true => dtypes.push(Dtype::F32),
            false if experiment.across.is_empty() => dtypes.clear(),
            false => {}
        }
        let check = |compute_dtype: Dtype| Model {
            name: format!("{}@{}", model.name, compute_dtype.name()),
            checks: Some(at),
            compute_dtype,
            layers: vec![nearest_two_thirds(&model.layers, model.spec.n_layers())],
            ..model.clone()
        };
        dtypes.into_iter().map(check).collect::<Vec<_>>()
    };
    models.iter().enumerate().flat_map(read_again).collect()
}
