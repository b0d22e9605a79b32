//! torchvision's names for what a graph's run has met.

use super::run::{Conv, Run};
use super::{Form, Graph, Window};
use crate::error::Error;
use crate::fold::Fold;

/// Gives the convolutions and norms of a run torchvision's names.
pub(super) struct Naming<'g> {
    graph: &'g Graph,
    run: &'g Run,
    /// Tensor, target, form.
    pub(super) uses: Vec<(String, String, Form)>,
    pub(super) folds: Vec<Fold>,
    pub(super) eps: Option<f64>,
}

impl<'g> Naming<'g> {
    pub(super) fn of(graph: &'g Graph, run: &'g Run) -> Result<Self, Error> {
        let mut naming = Self { graph, run, uses: Vec::new(), folds: Vec::new(), eps: None };
        naming.network()?;
        Ok(naming)
    }
    fn network(&mut self) -> Result<(), Error> {
        let end = || Error::Layout("its graph ends before a DenseNet does".into());
        let run = self.run;
        let (stem, rest) = run.convs.split_first().ok_or_else(end)?;
        let imagenet = stem.window == Window { kernel: 7, stride: 2, padding: 3 } && run.stem.is_some();
        let cifar = stem.window == Window { kernel: 3, stride: 1, padding: 1 } && run.stem.is_none();
        if !imagenet && !cifar {
            return Err(self
                .graph
                .refuse(stem.node, "a stem is a 7x7 of stride 2 with a max-pool, or a 3x3 of stride 1"));
        }
        self.conv("features.conv0", stem);
        let (mut block, mut layer) = (1, 0);
        let mut held = vec![stem.out];
        if let Some((norm, out)) = run.stem {
            self.norm("features.norm0", norm, "features.conv0")?;
            held = vec![out];
        }
        // A 1x1 that waits for its 3x3: its layer's name and its output.
        let mut waiting: Option<(String, usize)> = None;
        for conv in rest {
            let refuse = |reason: &str| Err(self.graph.refuse(conv.node, reason));
            let three = conv.window == Window { kernel: 3, stride: 1, padding: 1 };
            let one = conv.window == Window { kernel: 1, stride: 1, padding: 0 };
            match waiting.take() {
                Some((name, out)) if conv.parts == [out] && three => {
                    self.norm(&format!("{name}.norm2"), conv.norm, &format!("{name}.conv1"))?;
                    self.conv(&format!("{name}.conv2"), conv);
                    held.push(conv.out);
                }
                Some(_) => return refuse("the 3x3 of the layer before is missing"),
                None if conv.parts != held => return refuse("it reads other channels, or in another order"),
                None if conv.norm.is_none() => return refuse("there is no batch norm before it"),
                None if one && run.averages.contains_key(&conv.out) => {
                    self.norm(&format!("features.transition{block}.norm"), conv.norm, "")?;
                    self.conv(&format!("features.transition{block}.conv"), conv);
                    held = vec![run.averages.get(&conv.out).copied().unwrap_or_default()];
                    (block, layer) = (block + 1, 0);
                }
                None if one || three => {
                    layer += 1;
                    let name = format!("features.denseblock{block}.denselayer{layer}");
                    self.norm(&format!("{name}.norm1"), conv.norm, "")?;
                    self.conv(&format!("{name}.conv1"), conv);
                    if one {
                        waiting = Some((name, conv.out));
                    } else {
                        held.push(conv.out);
                    }
                }
                None => return refuse("its window is neither 1x1 nor 3x3 of stride 1"),
            }
        }
        let (Some((parts, norm)), Some((weight, bias, transposed)), None) = (&run.features, &run.classifier, &waiting)
        else {
            return Err(end());
        };
        if *parts != held {
            return Err(Error::Layout("its classifier reads other channels than the last block's".into()));
        }
        self.norm("features.norm5", *norm, "")?;
        let form = if *transposed { Form::Transposed } else { Form::Matrix };
        self.uses.push((weight.clone(), "classifier.weight".into(), form));
        self.uses.extend(bias.clone().map(|bias| (bias, "classifier.bias".into(), Form::Vector)));
        Ok(())
    }

    fn conv(&mut self, name: &str, conv: &Conv) {
        self.uses.push((conv.weight.clone(), format!("{name}.weight"), Form::AsItIs));
        self.uses.extend(conv.bias.clone().map(|bias| (bias, format!("{name}.bias"), Form::Vector)));
    }

    /// A batch norm, or what is left of it in the convolution `folded`.
    fn norm(&mut self, name: &str, norm: Option<usize>, folded: &str) -> Result<(), Error> {
        let Some(norm) = norm.and_then(|norm| self.run.norms.get(norm)) else {
            if folded.is_empty() {
                return Err(Error::Layout(format!("there is no batch norm where {name} belongs")));
            }
            self.folds.push(Fold::Absorbed { norm: name.to_owned(), conv: folded.to_owned() });
            return Ok(());
        };
        let has = |field: &str| norm.tensors.iter().any(|(name, _)| *name == field);
        for (field, tensor) in &norm.tensors {
            self.uses.push((tensor.clone(), format!("{name}.{field}"), Form::Vector));
        }
        if has("factor") {
            self.folds.push(Fold::Factor { norm: name.to_owned() });
        }
        if !has("weight") || !has("bias") {
            self.folds.push(Fold::Affine { norm: name.to_owned() });
        }
        if has("second.weight") || has("second.bias") {
            self.folds.push(Fold::Second { norm: name.to_owned() });
        }
        match self.eps {
            None => self.eps = Some(norm.eps),
            Some(to) if to != norm.eps => {
                self.folds.push(Fold::Eps { norm: name.to_owned(), from: norm.eps, to });
            }
            Some(_) => {}
        }
        Ok(())
    }
}
