//! `train --resume` through the binary: runs that were ended, and what a run leaves where something else ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::net::offline::tool_works;
use crate::run::{fixture, run};
use crate::train::{cifar, files, json, train};

/// Starts a run of the digits, and ends it by a signal once it has said something that begins so.
fn cut_off(folder: &Path, out: &str, signal: &str, when: &str) -> Option<i32> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
        .args(["train", "--preset", "digits", "--epochs", "4", "--batch-size", "16", "--out", out])
        .current_dir(folder)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with(when)));
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let said: Vec<String> = lines.collect();
    let code = child.wait().unwrap().code();
    if code.is_some() {
        assert!(said.iter().any(|line| line.contains("goes on from there")), "{said:?}");
    }
    code
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let whole = ["train", "--preset", "digits", "--epochs", "4", "--batch-size", "16", "--format", "json"];
    let in_folder = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let straight = run(folder.path(), &[&whole[..], &["--out", &in_folder("straight")]].concat());
    assert_eq!(straight.code, 0, "{}", straight.stderr);
    // SIGKILL leaves what the last epoch left; SIGTERM and Ctrl-C leave the step that was under way.
    for (signal, code, when) in
        [("-KILL", None, "epoch   2/4"), ("-TERM", Some(130), "epoch   1/4"), ("-INT", Some(130), "densenet-bc")]
    {
        let out = format!("cut{signal}");
        assert_eq!(cut_off(folder.path(), &out, signal, when), code, "{signal}");
        let rest = run(folder.path(), &["train", "--resume", &in_folder(&out), "--threads", "1", "--format", "json"]);
        assert_eq!(rest.code, 0, "{signal}: {}", rest.stderr);
        assert!(rest.stderr.contains("; going on after "), "{}", rest.stderr);
        assert!(files(&folder.path().join(&out)) == files(&folder.path().join("straight")), "{signal}");
        let figures = |text: &str| {
            let value = json(text);
            ["best", "last"].map(|which| {
                [&value[which]["epoch"], &value[which]["loss"], &value[which]["error"]].map(ToString::to_string)
            })
        };
        assert_eq!(figures(&rest.stdout), figures(&straight.stdout), "{signal}");
        // The figures are those of one run.
        let lines = std::fs::read_to_string(folder.path().join(&out).join("metrics.jsonl")).unwrap();
        let epochs: Vec<_> = lines.lines().skip(1).map(|line| json(line)["epoch"].clone()).collect();
        assert_eq!(epochs, [1, 2, 3, 4]);
    }
    // One that is done says so again, and its checkpoint is a model like any other.
    let again = run(folder.path(), &["train", "--resume", &in_folder("straight")]);
    assert_eq!((again.code, again.stdout.lines().count()), (0, 3), "{}", again.stderr);
    let last = in_folder("straight/last.safetensors");
    let measured = json(&run(folder.path(), &["eval", &last, "--data", "digits", "--format", "json"]).stdout);
    assert_eq!(measured["top1_wrong"], json(&straight.stdout)["last"]["error"]["wrong"]);
    let converted = run(folder.path(), &["convert", &last, "-o", &in_folder("converted.safetensors")]);
    assert_eq!(converted.code, 0, "{}", converted.stderr);
}

#[test]
fn a_run_goes_on_where_nobody_reads_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
        .args(["train", "--preset", "digits", "--epochs", "2", "--out", "out", "--format", "json"])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json(std::str::from_utf8(&output.stdout).unwrap())["last"]["epoch"], 2);
}

#[test]
fn a_run_that_replaces_another_leaves_nothing_of_it_from_its_first_checkpoint_on() {
    let folder = tempfile::tempdir().unwrap();
    let train = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"));
        command.args(["train", "--preset", "digits", "--out", "out"]).args(more).current_dir(folder.path());
        command
    };
    assert!(train(&["--epochs", "1", "--batch-size", "64"]).output().unwrap().status.success());
    let out = folder.path().join("out");
    assert!(out.join("README.md").exists() && out.join("curves.svg").exists());
    // It would take hours, and draw curves at its end.
    let more = ["--force", "--seed", "9", "--epochs", "60000"];
    let mut child = train(&more).stderr(Stdio::null()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while out.join("curves.png").exists() {
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed().as_secs() < 120);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // SIGKILL leaves the file that it was writing.
    let found: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(found.iter().any(|name| name == "last.safetensors"), "{found:?}");
    let stored = std::fs::read(out.join("last.safetensors")).unwrap();
    assert!(stored.windows(8).any(|bytes| bytes == b"seed\\\":9"), "{found:?}");
}

#[test]
fn a_disk_that_fills_up_leaves_the_last_checkpoint_and_the_run_goes_on_when_there_is_room() {
    if !tool_works(&["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]) {
        println!("not checked here: a namespace with a disk of its own cannot be had");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let recipe = "train --preset digits --epochs 4 --batch-size 16";
    let straight = run(
        folder.path(),
        &[&recipe.split(' ').collect::<Vec<_>>()[..], &["--out", folder.path().join("straight").to_str().unwrap()]]
            .concat(),
    );
    assert_eq!(straight.code, 0, "{}", straight.stderr);
    let script = format!(
        "mkdir disk && mount -t tmpfs -o size=4m tmpfs disk || exit 99
         $ZOO {recipe} --out disk/run 2> log > out &
         until grep -q '^epoch   1/' log || ! kill -0 $!; do sleep 0.01; done
         head -c 8m /dev/zero > disk/other 2> /dev/null
         wait $!; echo \"exit $?\"; grep '^densenet-zoo: ' log
         rm disk/other
         $ZOO train --resume disk/run > out 2>&1; echo \"exit $?\"
         cp disk/run/model.safetensors disk/run/last.safetensors ."
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]).env("ZOO", env!("CARGO_BIN_EXE_densenet-zoo"));
    let output = command.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert!(
        matches!(lines[..], ["exit 4", error, "exit 0"] if error.contains("disk/run") && error.contains("No space left")),
        "{said}"
    );
    assert!(files(folder.path()) == files(&folder.path().join("straight")));
}

#[test]
fn a_checkpoint_of_numbers_that_make_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(train(folder.path(), "out", &[]).code, 0);
    let path = folder.path().join("out/last.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
    for (from, to, says) in [
        (r#"\"batch\":64"#, r#"\"batch\":0 "#, "batch of 0"),
        (r#"\"growth_rate\":8"#, r#"\"growth_rate\":0"#, "growth_rate is 0"),
        (r#"\"step\":0"#, r#"\"step\":9"#, "which cannot be"),
        (r#"\"seed\":0"#, r#"\"sad\":0 "#, "missing field `seed`"),
        (r#"\"training\":"#, r#"\"trainink\":"#, "no checkpoint of a run"),
    ] {
        // `training` is a name of the header, and the rest stands in a string of it.
        let (from, to) = if from.contains("training") {
            (from.replace('\\', ""), to.replace('\\', ""))
        } else {
            (from.to_owned(), to.to_owned())
        };
        assert!(text.contains(&from), "{from}");
        let changed = text.replacen(&from, &to, 1);
        let mut file = (changed.len() as u64).to_le_bytes().to_vec();
        file.extend(changed.bytes());
        file.extend(&bytes[8 + header..]);
        std::fs::write(&path, file).unwrap();
        let outcome = run(folder.path(), &["train", "--resume", folder.path().join("out").to_str().unwrap()]);
        let errors: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("densenet-zoo: ")).collect();
        assert!(matches!(outcome.code, 2 | 5) && errors.len() == 1 && errors[0].contains(says), "{}", outcome.stderr);
    }
}

#[test]
fn a_run_of_torch7_goes_on_and_weights_of_another_network_are_named() {
    let folder = tempfile::tempdir().unwrap();
    cifar(folder.path(), 12);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, out, torch7) = (path(""), path("out"), fixture("torch7/a_cifar_bc_mem2"));
    let common =
        ["train", "--dataset", "cifar10+", "--data", &data, "--growth-rate", "4", "--out", &out, "--format", "json"];
    let more = ["--resume", torch7.to_str().unwrap(), "--depth", "22", "--epochs", "3"];
    let outcome = run(folder.path(), &[&common[..], &more].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("going on after 1 epochs"), "{}", outcome.stderr);
    let result = json(&outcome.stdout);
    // Its first epoch was Torch's; the rate of the second of three is past the first fall.
    assert_eq!(
        (&result["last"]["epoch"], result["origin"]["model"].as_str().unwrap().ends_with("model_1.t7")),
        (&3.into(), true)
    );
    let lines = std::fs::read_to_string(folder.path().join("out/metrics.jsonl")).unwrap();
    let rates: Vec<_> = lines.lines().skip(1).map(|line| json(line)["rate"].as_f64().unwrap()).collect();
    assert!(rates.len() == 2 && (rates[0] - 0.01).abs() < 1e-12 && (rates[1] - 0.001).abs() < 1e-12, "{rates:?}");
    let more = ["--resume", torch7.to_str().unwrap(), "--depth", "22", "--average", "0.9", "--force"];
    let outcome = run(folder.path(), &[&common[..], &more].concat());
    assert!(outcome.code == 2 && outcome.stderr.contains("the momentum of SGD alone"), "{}", outcome.stderr);
    // In one folder it could not be told which of the two runs goes on.
    let own = path("own");
    std::fs::create_dir(&own).unwrap();
    for file in ["latest.t7", "model_1.t7", "optimState_1.t7"] {
        std::fs::copy(torch7.join(file), Path::new(&own).join(file)).unwrap();
    }
    let same = ["train", "--dataset", "cifar10+", "--data", &data, "--growth-rate", "4", "--depth", "22"];
    let outcome = run(folder.path(), &[&same[..], &["--resume", &own, "--out", &own]].concat());
    assert!(outcome.code == 2 && outcome.stderr.contains("give another"), "{}", outcome.stderr);
    // Another network's.
    let more = ["--resume", torch7.to_str().unwrap(), "--depth", "16", "--force"];
    let outcome = run(folder.path(), &[&common[..], &more].concat());
    assert_eq!(outcome.code, 5, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("transition1.norm.weight\" has shape [20]"), "{}", outcome.stderr);
}
