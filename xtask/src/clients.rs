//! The set-up of the client suites in tests/clients, into target/clients; nothing that is up to date is done again.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::root;
use crate::shell::{self, Result};

/// The programs that clients need, and how each tells its version.
pub const PROGRAMS: [(&str, &str); 9] = [
    ("python3", "--version"),
    ("go", "version"),
    ("node", "--version"),
    ("npm", "--version"),
    ("javac", "-version"),
    ("mvn", "-version"),
    ("amqp-publish", "-?"),
    ("chromium", "--version"),
    ("ruby", "--version"),
];

enum Outcome {
    Ready,
    /// The machine lacks something, which this names.
    Skipped(String),
}

type SetUp = fn() -> Result<Outcome>;

const LANGUAGES: [(&str, SetUp); 11] = [
    ("python", python),
    ("node", node),
    ("browser", browser),
    ("go", go),
    ("java", java),
    ("java-javax", java_javax),
    ("rust", rust),
    ("c", c),
    ("ruby", ruby),
    ("directory", directory),
    ("tools", tools),
];

const JAVA_SOURCES: &str = "tests/clients/java/src/main/java/roadstead";

/// Programs that are taken out of Debian's packages without installing these, which would start servers: package and path.
const UNPACKED: [(&str, &str); 2] = [("rabbitmq-server", "usr/bin/rabbitmqadmin"), ("prometheus", "usr/bin/promtool")];

/// Sets up every client for which the machine has the toolchain. With `CI=true` it must have all.
pub fn set_up() -> Result {
    let mut failures = Vec::new();
    for (language, set_up) in LANGUAGES {
        match set_up() {
            Ok(Outcome::Ready) => println!("{language}: ready"),
            Ok(Outcome::Skipped(reason)) => {
                println!("{language}: skipped, {reason}");
                if shell::is_ci() {
                    failures.push(format!("{language}: {reason}"));
                }
            }
            Err(reason) => failures.push(format!("{language}: {reason}")),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

fn python() -> Result<Outcome> {
    const USABLE: &str = "import sys; print(sys.version); sys.exit(sys.version_info < (3, 11))";
    let names = ["python3", "python3.14", "python3.13", "python3.12", "python3.11"];
    let found = names.into_iter().find_map(|name| Some((name, shell::output(name, &["-c", USABLE])?)));
    let Some((python, version)) = found else {
        return Ok(Outcome::Skipped("there is no Python 3.11 or later".to_owned()));
    };
    if shell::output(python, &["-c", "import ensurepip, venv"]).is_none() && !installable("python3-venv") {
        return Ok(Outcome::Skipped(format!("{python} lacks venv, which is in Debian's python3-venv")));
    }
    let requirements = "tests/clients/python/requirements.txt";
    let work = || {
        shell::run(python, &["-m", "venv", "--clear", "target/clients/python"])?;
        let pip = "target/clients/python/bin/pip";
        shell::run_online(pip, &["install", "-q", "--disable-pip-version-check", "-r", requirements])
    };
    once("target/clients/python", &[requirements], &version, work)
}

fn node() -> Result<Outcome> {
    let Some(version) = shell::output("node", &["--version"]) else {
        return Ok(Outcome::Skipped("Node.js isn't installed".to_owned()));
    };
    if shell::installed("npm").is_none() {
        return Ok(Outcome::Skipped("npm isn't installed".to_owned()));
    }
    let manifests = ["tests/clients/node/package.json", "tests/clients/node/package-lock.json"];
    let arguments = ["ci", "--prefix", "tests/clients/node", "--no-audit", "--no-fund"];
    once("tests/clients/node/node_modules", &manifests, &version, || shell::run_online("npm", &arguments))
}

/// Go itself knows what is up to date.
fn go() -> Result<Outcome> {
    if shell::installed("go").is_none() {
        return Ok(Outcome::Skipped("Go isn't installed".to_owned()));
    }
    shell::run_online("go", &["build", "-C", "tests/clients/go", "-o", "../../../target/clients/go/suite", "."])?;
    Ok(Outcome::Ready)
}

fn java() -> Result<Outcome> {
    maven("java", || Ok(()))
}

/// The suites of JMS once more, for the client from before JMS moved to another package.
fn java_javax() -> Result<Outcome> {
    maven("java-javax", || {
        let made = root().join("target/clients/java-javax/sources/roadstead");
        let failed = |error: std::io::Error| format!("{}: {error}", made.display());
        // Without what is no longer among those that it is made of.
        let _ = fs::remove_dir_all(&made);
        fs::create_dir_all(&made).map_err(failed)?;
        for entry in fs::read_dir(root().join(JAVA_SOURCES)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let is_of_jms = name.to_str().is_some_and(|name| name.starts_with("Jms"));
            if is_of_jms || name == "Suite.java" || name == "Session.java" {
                let source = fs::read_to_string(entry.path()).map_err(failed)?;
                fs::write(made.join(name), source.replace("jakarta.jms", "javax.jms")).map_err(failed)?;
            }
        }
        Ok(())
    })
}

/// Builds a module of tests/clients that is made of the sources in Java, after `prepare`.
fn maven(module: &str, prepare: impl FnOnce() -> Result) -> Result<Outcome> {
    let Some(version) = shell::output("javac", &["-version"]) else {
        return Ok(Outcome::Skipped("there is no JDK".to_owned()));
    };
    if shell::installed("mvn").is_none() {
        return Ok(Outcome::Skipped("Maven isn't installed".to_owned()));
    }
    let manifest = format!("tests/clients/{module}/pom.xml");
    let arguments = ["-q", "-B", "-f", &manifest, "compile", "dependency:copy-dependencies"];
    once(&format!("target/clients/{module}"), &[&manifest, JAVA_SOURCES], &version, || {
        prepare()?;
        shell::run_online("mvn", &arguments)
    })
}

/// Cargo itself knows what is up to date.
fn rust() -> Result<Outcome> {
    let place = ["--manifest-path", "tests/clients/rust/Cargo.toml", "--target-dir", "target/clients/rust"];
    shell::run_online("cargo", &[&["build", "--quiet", "--locked"][..], &place].concat())?;
    Ok(Outcome::Ready)
}

fn browser() -> Result<Outcome> {
    Ok(programs(&[("chromium", "chromium")]))
}

fn c() -> Result<Outcome> {
    Ok(programs(&[("amqp-publish", "amqp-tools"), ("mosquitto_pub", "mosquitto-clients"), ("curl", "curl")]))
}

/// The gem is Debian's too, which is where Debian's Ruby finds it.
fn ruby() -> Result<Outcome> {
    let is_usable = || shell::output("ruby", &["-e", "require 'stomp'"]).is_some();
    if is_usable() || (installable("ruby-stomp") && is_usable()) {
        return Ok(Outcome::Ready);
    }
    Ok(Outcome::Skipped("there is no Ruby with the gem stomp, which is Debian's ruby-stomp".to_owned()))
}

/// The LDAP server that logins are tried with. It is no client, and not in everybody's path.
fn directory() -> Result<Outcome> {
    if Path::new("/usr/sbin/slapd").is_file() {
        return Ok(Outcome::Ready);
    }
    Ok(programs(&[("slapd", "slapd")]))
}

fn tools() -> Result<Outcome> {
    if shell::installed("apt-get").is_none() || shell::installed("dpkg").is_none() {
        return Ok(Outcome::Skipped("rabbitmqadmin and promtool are taken from Debian's packages".to_owned()));
    }
    let place = root().join("target/clients/debian");
    if UNPACKED.iter().all(|(_, path)| place.join(path).is_file()) {
        return Ok(Outcome::Ready);
    }
    let work = place.join("packages");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    for (package, _) in UNPACKED {
        let steps = format!(
            "cd target/clients/debian/packages && rm -f {package}_*.deb && \
             (apt-get download -qq {package} || (apt-get update -qq && apt-get download -qq {package})) && \
             dpkg -x {package}_*.deb .. && rm {package}_*.deb"
        );
        shell::run_online("sh", &["-c", &steps])?;
    }
    Ok(Outcome::Ready)
}

/// Makes sure of programs, each with the package of Debian that has it.
fn programs(wanted: &[(&str, &str)]) -> Outcome {
    let missing = |(program, package): &&(&str, &str)| shell::installed(program).is_none() && !installable(package);
    let missing: Vec<_> = wanted.iter().filter(missing).map(|(_, package)| *package).collect();
    if missing.is_empty() { Outcome::Ready } else { Outcome::Skipped(format!("{} not installed", missing.join(", "))) }
}

/// Installs a package of Debian, if this is root's shell on such a machine.
fn installable(package: &str) -> bool {
    let is_root = shell::output("id", &["-u"]).is_some_and(|id| id == "0");
    is_root
        && shell::installed("apt-get").is_some()
        && shell::run_online("apt-get", &["update", "-qq"]).is_ok()
        && shell::run_online("env", &["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", package])
            .is_ok()
}

/// Runs `work`, which makes `product`, unless it has succeeded with the same inputs, tool and place before.
fn once(product: &str, inputs: &[&str], tool: &str, work: impl FnOnce() -> Result) -> Result<Outcome> {
    // A moved repository needs new set-up: virtual environments hold their path.
    let product = root().join(product);
    let mut now = format!("{}\n{tool}\n", product.display());
    for input in inputs {
        describe(&root().join(input), &mut now)?;
    }
    let stamp = product.join(".set-up-of");
    if fs::read_to_string(&stamp).is_ok_and(|before| before == now) {
        return Ok(Outcome::Ready);
    }
    work()?;
    fs::write(&stamp, now).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(Outcome::Ready)
}

/// Adds the text of a file, or of all files of a folder.
fn describe(path: &Path, text: &mut String) -> Result {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if path.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(failed)?;
        let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        return paths.iter().try_for_each(|path| describe(path, text));
    }
    let content = fs::read_to_string(path).map_err(failed)?;
    let _ = writeln!(text, "{}\n{content}", path.display());
    Ok(())
}
