"""One node of a Ray cluster in the nodes of a run: rank 0 is the head and runs the program, the others work for it.

Its arguments are settings as JSON (``framework.py`` writes them), and the program's argv. It is told by hpcest's variables
where it is, and needs Python 3.8 and Ray.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec

_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_GRACE_S, _LOOK_S = 3.0, 0.2
# The longest path of a Unix socket is 107 bytes, of which Ray takes up to 68 for what it makes in its folder.
_LONGEST = 107 - 68
# The program's folder stands first in the path, and may have a module of any name.
_RAY = (sys.executable, "-c", "import sys; sys.path[:] = filter(None, sys.path); from ray.scripts.scripts import main; main()")
#: What a rank is told, and no process of Ray's: it may be one of many on its node, and has a rank of its own.
_RANK = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RAY_ADDRESS")


class RayNode:
    """This node's part of the cluster."""

    def __init__(self, settings, environ):
        self.settings, self.environ = settings, environ
        self.rank = int(environ["RANK"])
        self.peers = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in environ["HPCEST_PEERS"].split(","))]
        self.addresses = addresses(self.peers, self.rank)
        self.head = "%s:%d" % (self.addresses[0], self.peers[0][1])
        self.port = self.peers[self.rank][1]
        self.token = os.path.join(environ["HPCEST_RUN_DIR"], "state", "ray-token.%s" % environ["HPCEST_ATTEMPT"])
        self.until = time.monotonic() + settings["timeout"]
        self.folder = self.ray = None

    def start(self):
        """Start this node's Ray, which a token keeps from everybody else: whoever can talk to Ray can run programs as this user."""
        if self.rank == 0:
            write_token(self.token)
        await_file(self.token, self.until)
        for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": self.token, "RAY_USAGE_STATS_ENABLED": "0"}.items():
            self.environ.setdefault(name, value)
        self.environ.pop("TF_CONFIG", None)  # these are no roles of TensorFlow
        self.folder = tempfile.mkdtemp(prefix="ray-", dir=short_folder(self.environ.get("TMPDIR")))
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # they are for the program, and on a cluster reach Ray's processes as well
        env = {name: value for name, value in self.environ.items() if name not in _RANK and not name.startswith("OMPI_COMM_WORLD_")}
        with open(os.path.join(self.folder, "start.log"), "wb") as log:
            # In a process group of its own: when it dies, Ray has all of the group killed.
            self.ray = subprocess.Popen(
                [*_RAY, *self.arguments()], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def arguments(self):
        """Of ``ray start``: every port is this run's own, so that another Ray on the node does no harm. With 0 the kernel chooses."""
        settings, is_head = self.settings, self.rank == 0
        cpus = settings["head_cpus"] if is_head and settings["head_cpus"] is not None else self.environ["HPCEST_CPUS"]
        values = {
            "node-ip-address": self.addresses[self.rank],
            "num-cpus": cpus,
            "num-gpus": settings["gpus"],
            "temp-dir": os.path.join(self.folder, "r"),  # Ray opens its folder to everybody; the one around it stays closed
            "min-worker-port": 0,
            "max-worker-port": 0,
            "dashboard-agent-listen-port": 0,
        }
        store = settings["object_store_memory"] or int(self.environ.get("SLURM_MEM_PER_NODE") or 0) * (1 << 20) * 3 // 10
        if store:
            values["object-store-memory"] = store
        if not is_head:
            values.update({"address": self.head, "node-manager-port": self.port})
        else:
            values.update({"port": self.port, "include-dashboard": str(settings["dashboard"]).lower()})
            if find_spec("grpc"):  # without it there is no server for clients, and no such argument
                values["ray-client-server-port"] = free_port()
            if settings["dashboard"]:
                values.update({"dashboard-host": "0.0.0.0", "dashboard-port": free_port()})  # noqa: S104 - the token protects it
                self.tell_dashboard(values["dashboard-port"])
        words = ["--%s=%s" % pair for pair in values.items()]
        return ["start", "--block", *(["--head"] if is_head else []), *words, *settings["ray_arguments"]]

    def tell_dashboard(self, port):
        """Where the dashboard will be, and how to get there from elsewhere."""
        host = socket.gethostname()
        say("Ray dashboard: http://%s:%d (it asks for what is in %s)" % (host, port, self.token))
        say("from elsewhere: ssh -L %d:%s:%d LOGIN-NODE, then http://localhost:%d" % (port, host, port, port))

    def await_all(self):
        """Until every node is in the cluster. Ends this process if somebody is missing."""
        names = [self.addresses[rank] if is_here(host) else host for rank, (host, _) in enumerate(self.peers)]
        wanted = ["%s:%d" % (name, port) for name, (_, port) in zip(names[1:], self.peers[1:])]
        left = max(1.0, self.until - time.monotonic())
        argv = [sys.executable, __file__, "--await", str(left), self.head, *wanted]
        asking = subprocess.Popen(argv, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        while asking.poll() is None:
            if self.ray.poll() is not None:
                self.fail("Ray has ended with code %d before all nodes were there" % self.ray.returncode)
            if time.monotonic() > self.until + 2 * _GRACE_S:
                self.fail("Ray's head has given no answer within %d s" % self.settings["timeout"])
            time.sleep(_LOOK_S)
        missing = asking.stdout.read().decode().split()
        if missing:
            self.fail("no Ray cluster within %d s: not in it: %s" % (self.settings["timeout"], ", ".join(missing)))
        if asking.returncode:
            self.fail("Ray's head can't be asked which nodes it has")
        say("Ray cluster of %d node%s at %s" % (len(self.peers), "s" if len(self.peers) > 1 else "", self.head))

    def run(self, argv):
        """Run the program in the cluster; returns its exit code. Signals for it are passed on where they don't reach it anyway."""
        program = subprocess.Popen(argv, env=dict(self.environ, RAY_ADDRESS=self.head), preexec_fn=default_signals)
        in_step = "SLURM_STEP_ID" in self.environ
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN if in_step else lambda got, _: program.send_signal(got))
        try:
            while program.poll() is None:
                if self.ray.poll() is not None:
                    self.fail("Ray has ended with code %d under the program" % self.ray.returncode)
                time.sleep(_LOOK_S)
        except SystemExit:
            program.send_signal(signal.SIGTERM)
            await_end(program, _GRACE_S)
            raise
        code = program.returncode
        return code if code >= 0 else 128 - code

    def serve(self):
        """Work for the head until this process is told to end. A node that is lost when it was in the cluster is Ray's business."""
        was_in = False
        while self.ray.poll() is None:
            was_in = was_in or listens(self.addresses[self.rank], self.port)
            time.sleep(_LOOK_S * 5)
        if not was_in:
            self.fail("this node's Ray has ended with code %d before it was in the cluster" % self.ray.returncode)
        say("this node's Ray has ended with code %d; the cluster goes on without it" % self.ray.returncode)

    def fail(self, message):
        """Say what is wrong with this node's Ray, with its last words, and end this process."""
        say(message)
        with open(os.path.join(self.folder, "start.log"), errors="replace") as log:
            sys.stdout.writelines("  | " + line for line in log.readlines()[-20:])
        self.keep_logs()
        sys.exit(os.EX_TEMPFAIL)

    def keep_logs(self):
        """Copy Ray's own logs to the run's, for its folder will be gone."""
        logs = os.path.join(self.folder, "r", "session_latest", "logs")
        kept = os.path.join(self.environ["HPCEST_LOG_DIR"], "ray-%d.a%s" % (self.rank, self.environ["HPCEST_ATTEMPT"]))
        try:
            shutil.copytree(logs, kept, symlinks=True)
            say("Ray's own logs: %s" % kept)
        except (OSError, shutil.Error):
            pass  # it has none yet, or they change while they are copied

    def end(self):
        """End all processes that come from this one, and none of another Ray of this user, which 'ray stop' would end too."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if self.ray:
            self.ray.terminate()
            await_end(self.ray, _GRACE_S)
        for _ in range(100):
            left = descendants()
            for pid in left:
                kill(pid)
            reap()
            if not left:
                break
            time.sleep(0.02)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.rank == 0:
            remove(self.token)


def addresses(peers, rank):
    """The address of every node. Nodes that are all on this machine have loopback addresses of their own.

    (Ray would replace 127.0.0.1 by an address that others can reach.) Many a host has its own name for 127.0.1.1; it takes the
    address that leads to another node.
    """
    if all(is_here(host) for host, _ in peers):
        return ["127.0.0.%d" % (2 + number % 250) for number in range(len(peers))]
    found = [socket.gethostbyname(host) for host, _ in peers]
    other = next((found[number] for number, (host, _) in enumerate(peers) if host != peers[rank][0]), None)
    if other:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((other, 9))  # sends nothing: the kernel chooses the way
            found[rank] = probe.getsockname()[0]
    return found


def is_here(host):
    """Whether the name of a node says that all nodes are this machine."""
    return host in ("127.0.0.1", "localhost")


def short_folder(folder):
    """``folder`` if paths of sockets in it are short enough, else /tmp: node-local either way."""
    longest = _LONGEST - len("/ray-12345678/r")
    return folder if folder and len(os.fsencode(folder)) <= longest and os.access(folder, os.W_OK) else "/tmp"  # noqa: S108 - a folder in it


def write_token(path):
    """A secret that only this user can read."""
    with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(os.urandom(24).hex())
    os.rename(path + ".new", path)


def await_file(path, until):
    """Until there is a file; a network file system may show it later on another node. Ends this process if it doesn't."""
    while not os.path.exists(path):
        if time.monotonic() > until:
            say("there is no %s, which the first node writes" % path)
            sys.exit(os.EX_TEMPFAIL)
        os.listdir(os.path.dirname(path))  # makes a client look anew
        time.sleep(_LOOK_S)


def await_nodes(seconds, head, *wanted):
    """Exit with 0 when all of ``wanted``, node managers as HOST:PORT, are in the cluster; else print those that are not."""
    import ray  # type: ignore[import-not-found]  # of the run's environment

    until = time.monotonic() + float(seconds)
    ray.init(address=head, logging_level="ERROR", log_to_driver=False)
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        there = {"%s:%d" % (node[key], node["NodeManagerPort"]) for node in alive for key in ("NodeManagerAddress", "NodeManagerHostname")}
        missing = [one for one in wanted if one not in there]
        if not missing or time.monotonic() > until:
            print(*missing)  # noqa: T201 - for the head
            sys.exit(bool(missing))
        time.sleep(_LOOK_S)


def free_port():
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def listens(host, port):
    """Whether somebody does there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def adopt_orphans():
    """Become the parent of descendants whose own parent ends, so that none is out of sight."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants():
    """The pids of all processes that come from this one and still run."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as stream:
                    state, parent = stream.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state not in (b"Z", b"X"):
                children.setdefault(int(parent), []).append(int(name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def kill(pid):
    """At once."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def reap():
    """Take the exit statuses of all that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def await_end(process, seconds):
    """Until it has ended, but no longer."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def default_signals():
    """For the program, between fork and exec."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)


def remove(path):
    """It may be gone."""
    try:
        os.unlink(path)
    except OSError:
        pass


def say(line):
    """A line in the rank's log."""
    print("hpcest-rllib: " + line, flush=True)  # noqa: T201 - what it is for


def main(settings, *program):
    """This node's part, from start to end; exits with the program's code."""
    if not find_spec("ray"):
        say("this Python has no Ray: %s; install ray[rllib], or submit with --framework-version default" % sys.executable)
        sys.exit(os.EX_CONFIG)
    adopt_orphans()
    node = RayNode(json.loads(settings), dict(os.environ))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    code = 0
    try:
        node.start()
        if node.rank:
            node.serve()
        else:
            node.await_all()
            code = node.run(program)
            if code:
                node.keep_logs()
    finally:
        node.end()
    sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--await":
        await_nodes(*sys.argv[2:])
    main(*sys.argv[1:])
