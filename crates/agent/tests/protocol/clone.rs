//! Clones of golden images: before they have an identity, and when they run.

use super::*;

/// Where an image is made things are tried, and it stays an image: nothing is asked of a server.
#[test]
fn an_image_becomes_nobody_outside_of_an_initramfs() {
    let mut scene = Scene::new("", |path, _| panic!("{path} was asked"));
    scene.config.image = true;
    let disk = &scene.config.volumes[0].device;
    let before = fs::read(disk.path()).unwrap();
    for extent in [Extent::Open, Extent::Try] {
        let stop = open(&scene.config, &Machine::default(), &scene.state(), extent).unwrap_err();
        assert!(matches!(stop, Stop::NoIdentity), "{stop:?}");
    }
    assert!(fs::read(disk.path()).unwrap() == before && Session::read(&scene.state()).unwrap().is_none());
}

/// Its configuration names the image. What it starts as it stays.
#[test]
fn a_clone_goes_on_as_the_machine_that_it_started_as() {
    const CLONE: PrincipalId = PrincipalId([6; 16]);
    let scene = Scene::new(HEARTBEAT, |path, body| {
        if path == "/boot/v1/confirm" {
            assert_eq!(read::<Confirm>(body).unwrap().machine.0, CLONE);
            return (200, write(&Confirmed { token: Fixed([1; 32]), lease_s: 60 }));
        }
        if path == "/boot/v1/challenge" {
            assert_eq!(read::<Challenge>(body).unwrap().machine.0, CLONE);
            return (200, challenged(SERVER));
        }
        let attest: Attest = read(body).unwrap();
        let of = |machine| transcript_of(machine, &attest, &[]);
        let mac = |machine| Fixed(continue_mac(&Key::new(CONFIRM_KEY), &of(machine)));
        assert_eq!(attest.continues, Some(Continues { session: Fixed([4; 16]), mac: mac(CLONE) }));
        let (signer, key) = (NoteKey::from_seed(&RELEASE_SEED).unwrap(), Key::new(CONFIRM_KEY));
        let outlook = Outlook { candidate: None, lacks: Vec::new(), unnamed: Vec::new() };
        let besides = Besides::Outlook(outlook);
        let release =
            Release::seal(&of(CLONE), &attest.ephemeral, &[], &key, TERMS, besides, &signer).unwrap();
        (200, write(&release))
    });
    let root = scene.folder.path().join("root");
    fs::create_dir(&root).unwrap();
    Session { clone: Some(CLONE), ..held(60_000) }.write(&scene.state()).unwrap();
    let mut config = scene.config.clone();
    config.image = true;
    confirm(&config, &root, &scene.state()).unwrap();
    let claims = [("pcrs.11".to_owned(), "aa".to_owned())].into();
    let answer = candidate::propose(&config, &Machine::default(), &scene.state(), claims, true).unwrap();
    assert_eq!((answer.machine, answer.state), (CLONE.to_string(), State::Accepted));
    assert_eq!(Session::read(&scene.state()).unwrap().unwrap().clone, Some(CLONE));
}
