//! The last norm, the mean of each feature and the classifier, there and back.

use super::Core;
use super::backward::{add_norm_gradient, unit};
use super::batch::{Image, block_part};
use crate::kernels::train::{GateSet, Grid, Outer};
use crate::kernels::{CHUNK, Gemm, Panel, SumRow, Tiling};
use crate::lanes::{LANES, Lanes};

impl Core {
    /// Norm, ReLU and the mean over the last map.
    pub(crate) fn features(&mut self) {
        let last = self.network.blocks.len() - 1;
        let backend = self.backend;
        let norm = self.norm(&self.network.norm5, block_part(last) + 1, &self.pass.blocks[last].map);
        let pixels = self.sizes.pixels(last);
        self.team.each(self.batch.parts(), |part, _| {
            for image in part.images {
                image.features.fill(Lanes::ZERO);
                let (row, lanes) = (&image.maps[last][..], &mut image.features[..]);
                let panel = Panel { blocks: lanes.len(), lanes, tile: 1, at: 0 };
                backend.run(SumRow { norm: &norm, row, width: pixels, panel });
                let share = 1.0 / pixels as f32;
                image.features.iter_mut().flat_map(|lanes| &mut lanes.0).for_each(|sum| *sum *= share);
            }
        });
    }

    /// (n, classes)
    pub(crate) fn classify(&self) -> Vec<f32> {
        let (images, classes) = (self.batch.images(), self.config.num_classes);
        let weights = self.network.classifier.forward(self.backend, &self.parameters.values);
        let bias = &self.parameters.values[self.network.bias.clone()];
        let (blocks, out_blocks) = (weights.input.blocks(), weights.blocks());
        let mut logits = vec![0.0; images.len() * classes];
        for (images, logits) in images.chunks(CHUNK).zip(logits.chunks_mut(CHUNK * classes)) {
            let tiling = Tiling::cover(images.len(), self.backend.tile().0);
            let panel = feature_panel(images, blocks, tiling);
            let mut out = vec![Lanes::ZERO; out_blocks * tiling.span()];
            let (groups, pitch) = (0..weights.groups.len(), tiling.span());
            self.backend.run(Gemm {
                weights: &weights,
                groups,
                panel: &panel,
                tiling,
                relu: false,
                out: &mut out,
                pitch,
            });
            for (number, logits) in logits.chunks_exact_mut(classes).enumerate() {
                for (class, (logit, bias)) in logits.iter_mut().zip(bias).enumerate() {
                    *logit = out[class / LANES * pitch + number].0[class % LANES] + bias;
                }
            }
        }
        logits
    }

    /// The classifier's gradients and the features', which take the features' place.
    pub(crate) fn classifier(&mut self, logits: &[f32]) {
        let (backend, classes) = (self.backend, self.config.num_classes);
        let conv = &self.network.classifier;
        let weights = conv.backward(backend, &self.parameters.values);
        let (in_blocks, blocks) = (weights.input.blocks(), weights.blocks());
        let mut sums = vec![Lanes::ZERO; conv.sums()];
        for (images, logits) in self.batch.images_mut().chunks_mut(CHUNK).zip(logits.chunks(CHUNK * classes)) {
            let tiling = Tiling::cover(images.len(), backend.tile().0);
            let mut panel = vec![Lanes::ZERO; in_blocks * tiling.span()];
            for (number, logits) in logits.chunks_exact(classes).enumerate() {
                for (class, &value) in logits.iter().enumerate() {
                    let tile = number / tiling.tile * in_blocks + class / LANES;
                    panel[tile * tiling.tile + number % tiling.tile].0[class % LANES] = value;
                    self.gradients[self.network.bias.clone()][class] += value;
                }
            }
            let features = feature_panel(images, blocks, tiling);
            backend.run(Outer {
                gradient: Grid { lanes: &panel, block: tiling.tile, row: in_blocks * tiling.tile },
                input: Grid { lanes: &features, block: tiling.tile, row: blocks * tiling.tile },
                rows: tiling.tiles,
                width: tiling.tile,
                outputs: classes,
                blocks,
                sums: &mut sums,
            });
            let mut out = vec![Lanes::ZERO; blocks * tiling.span()];
            let (groups, pitch) = (0..weights.groups.len(), tiling.span());
            backend.run(Gemm { weights: &weights, groups, panel: &panel, tiling, relu: false, out: &mut out, pitch });
            for (number, image) in images.iter_mut().enumerate() {
                for (block, values) in image.features.iter_mut().enumerate() {
                    *values = out[block * pitch + number];
                }
            }
        }
        conv.add_gradient([&sums[..]].into_iter(), &mut self.gradients);
    }

    /// The mean, the last ReLU and norm.
    pub(crate) fn head(&mut self, block: usize) {
        let (backend, pixels) = (self.backend, self.sizes.pixels(block));
        let norm = self.norm(&self.network.norm5, block_part(block) + 1, &self.pass.blocks[block].map);
        let statistics = &self.pass.blocks[block].map;
        let blocks = norm.scale.len();
        self.team.each(self.batch.parts(), |part, _| {
            for image in part.images {
                image.clear_sums(blocks);
                backend.run(GateSet {
                    unit: unit(&norm, statistics),
                    map: &image.maps[block],
                    gradient: &mut image.gradients[block % 2],
                    pitch: pixels,
                    count: pixels,
                    incoming: &image.features,
                    incoming_pitch: 1,
                    halvings: usize::BITS - 1,
                    share: 1.0 / pixels as f32,
                    sums: &mut image.sums,
                });
            }
        });
        let sums = self.sums(blocks);
        let lanes = blocks * LANES;
        self.pass.blocks[block].deferred.clear(lanes);
        let count = self.pass.blocks[block].map.count;
        self.pass.blocks[block].deferred.add(&norm, &sums, count);
        add_norm_gradient(&self.network.norm5, &sums, &mut self.gradients);
    }
}

/// The features of some images as the pixels of a panel.
fn feature_panel(images: &[Image], blocks: usize, tiling: Tiling) -> Vec<Lanes> {
    let mut lanes = vec![Lanes::ZERO; blocks * tiling.span()];
    for (number, image) in images.iter().enumerate() {
        for (block, &values) in image.features.iter().enumerate() {
            lanes[(number / tiling.tile * blocks + block) * tiling.tile + number % tiling.tile] = values;
        }
    }
    lanes
}
