//! The files of a configuration, right or damaged.

use std::{ffi::CString, fs, os::unix::ffi::OsStrExt, path::Path};

use kit::{
    edge::{GATE, GUARD},
    mmdb,
};

use super::{
    backend::TIMEOUT,
    expected::{Expected, LAST, countries},
    step::{Damage, LIST, Rules},
    world::World,
};

impl World {
    pub(super) fn write_files(&self) {
        let Expected { files, damage, .. } = &self.expected;
        let site = &self.edge.site;
        let list = site.path(LIST);
        if list.is_dir() {
            fs::remove_dir(&list).unwrap();
        } else if fs::symlink_metadata(&list).is_ok() {
            fs::remove_file(&list).unwrap();
        }
        match damage {
            Some(Damage::NoList) => {}
            Some(Damage::ListIsAFolder) => fs::create_dir(&list).unwrap(),
            Some(Damage::ListIsAFifo) => make_fifo(&list),
            Some(Damage::BrokenLine) => fs::write(&list, files.list() + "nonsense\n").unwrap(),
            Some(Damage::EmptyList) => fs::write(&list, "# nothing\n").unwrap(),
            Some(Damage::Everybody) => fs::write(&list, files.list() + "0.0.0.0/0\n").unwrap(),
            _ => fs::write(&list, files.list()).unwrap(),
        }
        let known = countries(files.database).0;
        let networks: Vec<_> = known.iter().map(|(prefix, code)| (*prefix, mmdb::nested(code))).collect();
        let mut database = mmdb::write(mmdb::Layout { record_bits: 28, ip_version: 6 }, &networks);
        if *damage == Some(Damage::CorruptDatabase) {
            database.truncate(database.len() / 2);
        }
        // In one step, as the tools that bring databases do.
        let fresh = site.write("country.mmdb.new", database);
        fs::rename(fresh, site.path("country.mmdb")).unwrap();
        let text = self.text(files);
        match damage {
            Some(Damage::NoConfiguration) => drop(fs::remove_file(site.path("nicgate.conf"))),
            Some(Damage::Syntax) => {
                drop(site.configure(&text.replace("interface extra0;", "interface extra0")));
            }
            Some(Damage::UnknownWord) => drop(site.configure(&text.replace("backend http", "backed http"))),
            _ => drop(site.configure(&text)),
        }
    }

    pub(super) fn text(&self, rules: &Rules) -> String {
        format!(
            "interface {} {{ mode native; }}\ninterface extra0;\n{}\
             guard udp {GUARD} auth://viewers;\nnever_drop {};\ngeoip \"country.mmdb\";\nbackend_timeout {};\n\
             stream live {{ input fake://; on_play auth://viewers; }}\n\
             auth_backend viewers {{\n{}backend http://{}/auth;\n}}\n\
             auth_backend other {{ deny country FR; }}\n",
            self.edge.lab.interface(),
            self.edge.gate(GATE),
            LAST.join(" "),
            TIMEOUT.as_secs_f64(),
            rules.text(),
            self.backend.address,
        )
    }
}

fn make_fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path without zero bytes");
    // SAFETY: the path is a string with a terminating zero that lives until the call returns.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0, "a new name");
}
