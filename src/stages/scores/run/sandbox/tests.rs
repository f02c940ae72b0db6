//! Programs that try to escape the sandbox or to exceed its limits.

use super::*;

/// A Monty sandbox with a short time limit.
fn monty() -> Sandbox {
    let mut sandbox = of("monty");
    sandbox.find().unwrap();
    sandbox
}

fn of(command: &str) -> Sandbox {
    Sandbox { sandbox: command.into(), seconds: 1.0, memory: 32, version: None, program: PathBuf::new() }
}

#[test]
fn programs_that_try_to_get_out_do_not() {
    let (monty, folder) = (monty(), tempfile::tempdir().unwrap());
    monty.ensure_works().unwrap();
    let (secret, mark) = (folder.path().join("secret"), folder.path().join("mark"));
    fs_err::write(&secret, "it is here").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (secret, mark, port) =
        (secret.display().to_string(), mark.display().to_string(), listener.local_addr().unwrap().port());
    // Each program passes if it gets what it asks for.
    for code in [
        format!("assert open('{secret}').read() == 'it is here'"),
        format!("from pathlib import Path\nassert Path('{secret}').read_text() == 'it is here'"),
        "assert 'emoflow' in open('program.py').read() + 'emoflow'".to_string(),
        "assert len(open('/proc/self/environ').read()) > 0".to_string(),
        format!("open('{mark}', 'w').write('x')"),
        format!("from pathlib import Path\nPath('{mark}').write_text('x')"),
        "import os\nassert os.listdir('/')".to_string(),
        "import os\nassert os.environ['PATH']".to_string(),
        "import os\nassert os.getenv('PATH')".to_string(),
        format!("import os\nos.system('touch {mark}')"),
        format!("import subprocess\nsubprocess.run(['touch', '{mark}'])"),
        "import os\nassert os.fork() >= 0".to_string(),
        "import multiprocessing\nmultiprocessing.Process(target=print).start()".to_string(),
        "import threading\nthreading.Thread(target=print).start()".to_string(),
        "import ctypes\nctypes.CDLL(None)".to_string(),
        format!("import socket\nsocket.create_connection(('127.0.0.1', {port}))"),
        format!("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}')"),
        format!("__import__('os').system('touch {mark}')"),
        format!("eval(\"__import__('os').system('touch {mark}')\")"),
        format!("exec(\"import os\\nos.system('touch {mark}')\")"),
        "().__class__.__base__.__subclasses__()".to_string(),
        "import sys\nsys._getframe()".to_string(),
        "assert 'print' in globals()['__builtins__']".to_string(),
        "input()".to_string(),
    ] {
        let ran = monty.run(&code).unwrap();
        assert!(matches!(ran, Ran::Failed(_) | Ran::Unsupported(_)), "{code}\n{ran:?}");
    }
    assert!(!Path::new(&mark).exists(), "a program wrote a file");
    assert!(listener.accept().is_err(), "a program opened a socket");
}

#[test]
fn programs_that_end_early_have_not_passed() {
    let monty = monty();
    let tests = "assert f() == 3";
    for code in [
        "exit(0)",
        "quit()",
        "raise SystemExit(0)",
        "raise SystemExit",
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "print('passed')\nexit()",
        // The mark printed last is unknown to every program.
        "def print(*anything): pass\ndef f(): return 3",
        "def f(): return 2",
        "try:\n    f()\nexcept BaseException:\n    pass",
    ] {
        let ran = monty.run(&format!("{code}\n\n{tests}")).unwrap();
        assert!(matches!(ran, Ran::Failed(_) | Ran::Unsupported(_)), "{code}\n{ran:?}");
    }
    for code in ["f = lambda: 3", "def f():\n    print('a\\n' * 100)\n    return 3"] {
        assert_eq!(monty.run(&format!("{code}\n\n{tests}")).unwrap(), Ran::Passed, "{code}");
    }
}

#[test]
fn programs_that_take_too_much_are_stopped() {
    let monty = monty();
    let check = |code: &str, wanted: &str| match monty.run(code).unwrap() {
        Ran::Exceeded(why) => assert!(why.contains(wanted), "{code}\n{why}"),
        other => panic!("{code}\n{other:?}"),
    };
    check("while True:\n    pass", "time limit exceeded");
    check(
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        "time limit",
    );
    check("x = [0]\nwhile True:\n    x = x + x", "memory limit exceeded");
    check("x = 'a' * 10 ** 10", "memory limit exceeded");
    check("x = 10 ** 10 ** 9", "memory limit exceeded");
    check("while True:\n    print('a' * 10000)", "1 MiB of output");
    // Sleeping takes no time.
    assert_eq!(monty.run("import time\ntime.sleep(3600)").unwrap(), Ran::Passed);
    assert!(
        matches!(monty.run("def f(): return f()\nf()").unwrap(), Ran::Failed(why) if why.contains("recursion"))
    );
}

#[test]
fn what_is_no_program_for_it_is_said() {
    let monty = monty();
    for (code, wanted) in [
        ("def f(:", "SyntaxError"),
        ("Certainly! Here it is:", "SyntaxError"),
        ("import numpy", "ModuleNotFoundError"),
        ("def f():\n    yield 1\nf()", "NotImplementedError"),
    ] {
        let ran = monty.run(code).unwrap();
        assert!(matches!(&ran, Ran::Unsupported(why) if why.starts_with(wanted)), "{code}\n{ran:?}");
    }
    for (code, wanted) in [
        ("raise NotImplementedError", "NotImplementedError"),
        ("raise NotImplementedError('later')", "NotImplementedError: later"),
        ("assert 1 == 2, 'no'", "AssertionError: no"),
        ("f()", "unknown external function: f()"),
        ("[][1]", "IndexError"),
    ] {
        let ran = monty.run(code).unwrap();
        assert!(matches!(&ran, Ran::Failed(why) if why.starts_with(wanted)), "{code}\n{ran:?}");
    }
}

/// The commands run nothing but the programs below.
#[test]
fn a_command_of_the_user_s_is_given_the_program_and_little_else() {
    let found = |command: &str| {
        let mut sandbox = of(command);
        // Startup may take a while on a busy machine.
        sandbox.seconds = 20.0;
        sandbox.find().map(|()| sandbox)
    };
    let python = found("python3 -I -").unwrap();
    python.ensure_works().unwrap();
    for (code, wanted) in [
        ("assert 1 == 2", Ran::Failed("AssertionError".into())),
        ("import sys\nsys.exit(0)", Ran::Failed("it ended before the tests did".into())),
        ("import os\nos._exit(0)", Ran::Failed("it ended before the tests did".into())),
        ("import no_such", Ran::Unsupported("ModuleNotFoundError: No module named 'no_such'".into())),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", Ran::Exceeded("it was killed".into())),
        // The environment stays out: whoever runs the tests has more in it, such as keys.
        ("import os\nassert not [name for name in os.environ if 'CARGO' in name]", Ran::Passed),
    ] {
        assert_eq!(python.run(code).unwrap(), wanted, "{code}");
    }
    let impatient = Sandbox { seconds: 1.0, ..python.clone() };
    assert_eq!(impatient.run("import time\ntime.sleep(60)").unwrap(), Ran::Exceeded("1 s".into()));
    // Processes that a program started end with it.
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let child =
        format!("import subprocess\nsubprocess.Popen(['sh', '-c', 'sleep 1; touch {}'])", mark.display());
    assert_eq!(python.run(&child).unwrap(), Ran::Passed);
    thread::sleep(Duration::from_millis(1300));
    assert!(!mark.exists(), "what it has started goes on");
    let error = |command: &str| match found(command) {
        Ok(sandbox) => format!("{:#}", sandbox.ensure_works().unwrap_err()),
        Err(error) => format!("{error:#}"),
    };
    assert!(error("no-such-sandbox -x").contains("there is no `no-such-sandbox`"));
    // A command that starts nothing, and one that reports every program as a success.
    assert!(error("false").contains("does not run programs"));
    assert!(error("sed -n s/print(.\\(.*\\).)/\\1/p").contains("a test that fails gives Passed"));
}
