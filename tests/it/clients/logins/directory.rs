//! A directory: slapd, with two users and their groups.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use roadstead_tests::wait_until;
use tempfile::TempDir;

const ENTRIES: &str = "\
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: uid=alice,ou=people,dc=example,dc=org
objectClass: account
objectClass: simpleSecurityObject
uid: alice
userPassword: alice's secret

dn: uid=bob,ou=people,dc=example,dc=org
objectClass: account
objectClass: simpleSecurityObject
uid: bob
userPassword: bob's secret

dn: cn=writers,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: writers
member: uid=alice,ou=people,dc=example,dc=org

dn: cn=managers,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: managers
member: uid=alice,ou=people,dc=example,dc=org
";

/// Where Debian and others have it.
pub fn slapd() -> Option<PathBuf> {
    ["/usr/sbin/slapd", "/usr/libexec/slapd", "/usr/local/libexec/slapd"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file())
}

/// A running slapd.
pub struct Directory {
    process: Child,
    port: u16,
    files: TempDir,
}

impl Directory {
    /// Fills a new directory, and waits until it listens.
    pub fn start() -> Self {
        let files = TempDir::with_prefix("roadstead-slapd-").expect("the temporary directory is writable");
        let path = |name: &str| files.path().join(name);
        fs::create_dir(path("data")).expect("the directory is new");
        write_certificates(files.path());
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             modulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             TLSCertificateFile {0}/server.pem\nTLSCertificateKeyFile {0}/server.key\n\
             database mdb\nsuffix dc=example,dc=org\nrootdn cn=admin,dc=example,dc=org\nrootpw secret\n\
             directory {0}/data\nmaxsize 16777216\n\
             access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n",
            files.path().display()
        );
        fs::write(path("slapd.conf"), config).expect("a new file can be written");
        fs::write(path("entries.ldif"), ENTRIES).expect("a new file can be written");
        let slapd = slapd().expect("slapd is installed");
        let filled = Command::new(&slapd)
            .args(["-T", "add", "-f"])
            .arg(path("slapd.conf"))
            .arg("-l")
            .arg(path("entries.ldif"))
            .output()
            .expect("slapd can be executed");
        assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
        // slapd cannot say which port it was given. Another process may take a free one first; then there is no answer.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("ports are free").port();
        let process = Command::new(&slapd)
            .args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{port}"), "-f"])
            .arg(path("slapd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("slapd can be executed");
        let directory = Self { process, port, files };
        wait_until(10, "slapd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        directory
    }

    /// Its port on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that signed its own.
    pub fn ca(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write_certificates(directory: &Path) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Roadstead's test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let new_key = || KeyPair::generate().expect("ring makes keys");
    let authority = CertifiedIssuer::self_signed(params, new_key()).expect("a key signs itself");
    let key = new_key();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).expect("the name is a name");
    let certificate = server.signed_by(&key, &authority).expect("the authority signs");
    for (name, text) in
        [("ca.pem", authority.pem()), ("server.pem", certificate.pem()), ("server.key", key.serialize_pem())]
    {
        fs::write(directory.join(name), text).expect("a new file can be written");
    }
}
