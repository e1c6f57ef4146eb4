# SPDX-License-Identifier: Apache-2.0
"""A client of a running crew's control socket.  Standard library only; safe to use from several threads.

    with crewd.Client() as crew:
        print([a.name for a in crew.status().agents])
        result = crew.submit("collect").result()
"""
import collections
import json
import os
import threading
import time

from . import codec
from .codec import Cause, CodecError, Message, Outcome
from .wire import Wire, WireError

EVENTS_HELD = 10000  # events nobody has read yet; older ones are dropped and counted


class CrewdError(RuntimeError):
    """Base of everything raised here.  (LangGraph retries exceptions that are not RuntimeErrors.)"""


class ConnectError(CrewdError):
    """No crew to talk to."""


class ConnectionClosed(CrewdError):
    """crewd went away, or this client was closed."""


class ProtocolError(CrewdError):
    """crewd said something that is not the protocol; the connection is closed."""


class RequestTimeout(CrewdError, TimeoutError):
    """No answer in time.  The request may still be carried out."""


class Refused(CrewdError):
    """crewd answered no: .code (a word), .message, .hint."""

    def __init__(self, code, message, hint=""):
        super().__init__(message + (f" ({hint})" if hint else ""))
        self.code, self.message, self.hint = code, message, hint


class UnknownAgent(Refused):
    pass


class UnknownTask(Refused):
    pass


class NotRunning(Refused):
    pass


_REFUSALS = {"unknown-agent": UnknownAgent, "unknown-task": UnknownTask, "not-running": NotRunning}


class TaskFailed(CrewdError):
    """A task ended without a result: .outcome (crewd.Outcome), .done (the whole TaskDone)."""

    def __init__(self, done):
        super().__init__(done.error or f"task {done.task_id}: {done.outcome.name.lower()}")
        self.done, self.outcome = done, done.outcome


class AgentTerminated(TaskFailed):
    """The task's agent died: .record is the AgentTerminated message, .cause a crewd.Cause."""

    def __init__(self, done):
        super().__init__(done)
        self.record = done.terminated
        self.cause = self.record.cause if self.record else Cause.UNSET


def run_dir():
    """Where the crews' control sockets are: <run_dir>/<crew>/control.sock."""
    home = os.environ.get("CREWD_HOME")
    if home:
        return os.path.join(home, "run")
    if os.geteuid() == 0:
        return "/run/crewd"
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not base.startswith("/"):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "crewd")


def _control_socket(crew):
    base = run_dir()
    try:
        crews = [crew] if crew else sorted(c for c in os.listdir(base)
                                           if os.path.exists(os.path.join(base, c, "control.sock")))
    except OSError:
        crews = []
    if not crews:
        raise ConnectError(f"no crew is running below {base}")
    if len(crews) > 1:
        raise ConnectError(f"several crews are running: {', '.join(crews)}; name one")
    return os.path.join(base, crews[0], "control.sock")


class Task:
    """A submitted task.  .id is crewd's."""

    def __init__(self, client, corr, task_id):
        self._client, self._corr, self.id = client, corr, task_id
        self._done = None

    def wait(self, timeout=None):
        """The TaskDone message, whatever the outcome."""
        if self._done is None:
            _, self._done = self._client._answer(self._corr, ("task_done",), timeout)
            self._client._forget(self._corr)
        return self._done

    def cancel(self, reason=""):
        """Calls it off, see Client.cancel(); wait() then gives the outcome CANCELLED."""
        return self._client.cancel(self.id, reason)

    def result(self, timeout=None):
        """The parsed result; raises TaskFailed or AgentTerminated when there is none."""
        done = self.wait(timeout)
        if done.outcome == Outcome.OK:
            return json.loads(done.result) if done.result else None
        raise (AgentTerminated if done.outcome == Outcome.TERMINATED else TaskFailed)(done)


class Client:
    """One connection.  Give a crew's name, the path of its control socket, or neither when one crew is running.

    orchestrator: this program directs the crew by itself; what it kills is then recorded as killed by an orchestrator, not
    by the operator."""

    def __init__(self, crew=None, path=None, name="crewd-python", timeout=30.0, orchestrator=False):
        self.timeout = timeout
        self.events_dropped = 0
        self._changed = threading.Condition()  # guards what the reader fills
        self._sending = threading.Lock()  # frames go out in the order of their numbers
        self._seq = 0
        self._requests = {}  # seq -> answers that came, in their order
        self._events = collections.deque()
        self._failure = None
        path = path or _control_socket(crew)
        try:
            self._wire = Wire.connect(path, timeout)
        except (OSError, WireError) as e:
            raise ConnectError(f"cannot connect to {path}: {e}") from e
        self._reader = threading.Thread(target=self._read, name="crewd-client", daemon=True)
        self._reader.start()
        try:
            hello = self._call("client_hello", Message("ClientHello", protocol=codec.VERSION, client=name,
                                                       orchestrator=orchestrator), "server_hello")
        except BaseException:
            self.close()
            raise
        self.crew, self.version, self.crew_file, self.pid = hello.crew, hello.version, hello.crew_file, hello.pid

    def close(self):
        self._fail(ConnectionClosed("this client was closed"))
        self._wire.close()
        if self._reader is not threading.current_thread():
            self._reader.join()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # ---- the connection ----

    def _fail(self, error):
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _read(self):
        expected = 1
        try:
            while True:
                envelope, body, message = codec.decode_envelope(self._wire.recv())
                if envelope.seq != expected:
                    raise CodecError(f"frame {envelope.seq} came where {expected} was due")
                expected += 1
                self._dispatch(envelope.corr, body, message)
        except WireError as e:
            self._fail((ConnectionClosed if e.closed else ProtocolError)(str(e)))
        except CodecError as e:
            self._fail(ProtocolError(str(e)))
        self._wire.close()

    def _dispatch(self, corr, body, message):
        with self._changed:
            if body == "event":
                self._events.append(message)
                if len(self._events) > EVENTS_HELD:
                    self._events.popleft()
                    self.events_dropped += 1
            elif corr in self._requests:
                self._requests[corr].append((body, message))
            self._changed.notify_all()

    def _send(self, body, message, corr=0, keep=True):
        with self._sending:
            seq = self._seq + 1
            try:
                frame = codec.encode_envelope(seq, body, message, corr)
            except CodecError as e:
                raise ValueError(str(e)) from None
            with self._changed:
                if self._failure:
                    raise self._failure
                if keep:
                    self._requests[seq] = collections.deque()
            self._seq = seq
            try:
                self._wire.send(frame)
            except WireError:
                pass  # what crewd said before it hung up is still to be read; the reader reports the end
            return seq

    def _forget(self, seq):
        with self._changed:
            self._requests.pop(seq, None)

    def _wait(self, ready, timeout, what):
        """ready() under the lock until it gives something; what came before a failure is still given."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                found = ready()
                if found is not None:
                    return found
                if self._failure:
                    raise self._failure
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left < -0.25:
                    # The process stood still: what has come meanwhile is yet to be read by the other thread.
                    deadline, left = time.monotonic() + 1, 1
                if left is not None and left <= 0:
                    raise RequestTimeout(f"no {what} within {timeout} s")
                self._changed.wait(left)

    def _answer(self, seq, wanted, timeout):
        """(body, message) of the next answer to request seq; a Refused is raised."""
        answers = self._requests[seq]
        body, message = self._wait(lambda: answers.popleft() if answers else None, timeout, wanted[0])
        if body == "refused":
            self._forget(seq)
            raise _REFUSALS.get(message.code, Refused)(message.code, message.message, message.hint)
        if body not in wanted:
            self._forget(seq)
            raise ProtocolError(f"'{body}' came where '{wanted[0]}' was due")
        return body, message

    def _call(self, body, message, wanted, timeout=-1):
        seq = self._send(body, message)
        try:
            return self._answer(seq, (wanted,), self.timeout if timeout == -1 else timeout)[1]
        finally:
            self._forget(seq)

    # ---- requests ----

    def status(self):
        """The Status message: .agents, .tasks, .state, ..."""
        return self._call("get_status", Message("GetStatus"), "status")

    def kill(self, agent="", reason="", task=""):
        """Kills one agent, or whichever works on a task now; returns the Killed message once its whole tree is gone.

        Its `was` is DECLARED or RESTARTING for one that had no process and waited for one: it gets none."""
        return self._call("kill_agent", Message("KillAgent", agent=agent, reason=reason, task=task), "killed")

    def stop_agent(self, agent, grace_ms=30000, reason=""):
        """Lets one agent end in order and kills it after the grace; returns the Killed message.  It is not restarted."""
        timeout = None if self.timeout is None else self.timeout + grace_ms / 1000
        return self._call("stop_agent", Message("StopAgent", agent=agent, grace_ms=grace_ms, reason=reason), "killed", timeout)

    def start_agent(self, agent, reason="", timeout=None):
        """Starts the next instance of an agent that has ended or waits for its restart; returns the AgentStarted message
        once it is up."""
        return self._call("start_agent", Message("StartAgent", agent=agent, reason=reason), "agent_started", timeout)

    def freeze(self, agent="", reason="", task=""):
        """Nothing of the agent runs until thaw() or kill(); returns the AgentHeld message."""
        return self._call("freeze_agent", Message("FreezeAgent", agent=agent, reason=reason, task=task), "agent_held")

    def thaw(self, agent, reason=""):
        """It goes on; the time it stood still does not count against its task."""
        return self._call("freeze_agent", Message("FreezeAgent", agent=agent, reason=reason, thaw=True), "agent_held")

    def stop(self, grace_ms=0, reason=""):
        """Stops the crew; returns the Done message."""
        timeout = None if self.timeout is None else self.timeout + grace_ms / 1000
        return self._call("stop_crew", Message("StopCrew", grace_ms=grace_ms, reason=reason), "done", timeout)

    def submit(self, task="", agent="", description="", input=None, timeout_ms=0, key="", retries=0):
        """Starts a task of the crew file by name, or an ad-hoc one for an agent; returns a Task.

        With a key it is started once: whoever submits the same with that key, also after a lost connection, gets that task and
        its outcome.  A failed attempt is repeated up to retries times, unless a tool was called in it that is not idempotent."""
        text = "" if input is None else json.dumps(input, ensure_ascii=False)
        seq = self._send("submit_task", Message("SubmitTask", task=task, agent=agent, description=description, input=text,
                                                timeout_ms=timeout_ms, key=key, retries=retries))
        accepted = self._answer(seq, ("task_accepted",), self.timeout)[1]
        return Task(self, seq, accepted.task_id)

    def cancel(self, task_id, reason=""):
        """Calls a task off that waits or runs, by its id or its name in the crew file, whoever submitted it; returns the
        TaskCancelled message.  Its outcome is CANCELLED: at once, or (.running) when its agent, who is told, ends it or has
        been killed for going on.  Refused: UnknownTask, or .code "over" or "ending"."""
        return self._call("cancel_task", Message("CancelTask", task=task_id, reason=reason), "task_cancelled")

    def run(self, timeout=None):
        """Runs every task of the crew file once; returns the CrewDone message.  Events can be read meanwhile."""
        return self._call("run_tasks", Message("RunTasks"), "crew_done", timeout)

    def exec(self, agent, argv, input=b"", timeout=None):
        """Runs a command in the agent's jail; returns (Done, stdout, stderr)."""
        seq = self._send("client_exec", Message("ClientExec", agent=agent, argv=list(argv)))
        try:
            for at in range(0, len(input), 1 << 16):
                self._send("exec_input", Message("ExecInput", data=input[at:at + (1 << 16)]), seq, keep=False)
            self._send("exec_input", Message("ExecInput", eof=True), seq, keep=False)
            streams = {1: bytearray(), 2: bytearray()}
            while True:
                body, message = self._answer(seq, ("done", "exec_output"), timeout)
                if body == "done":
                    return message, bytes(streams[1]), bytes(streams[2])
                streams[message.stream] += message.data
        finally:
            self._forget(seq)

    # ---- the operator's part ----

    def approvals(self):
        """The Approval messages of connections that wait for an answer, oldest first."""
        return list(self._call("list_approvals", Message("ListApprovals"), "approval_list").items)

    def approve(self, id, scope="once"):
        """Lets it through: "once" those that wait, "session" until the agent's instance ends, "always" when the caller has
        written the rule and had it loaded.  Returns the Approval; an id that is decided already is Refused."""
        return self._decide(id, "APPROVE", scope)

    def deny(self, id, scope="once"):
        """The opposite; scope is "once" or "session"."""
        return self._decide(id, "DENY", scope)

    def _decide(self, id, verdict, scope):
        return self._call("answer_approval", Message("AnswerApproval", id=id, verdict=codec.ENUMS["ApprovalVerdict"][verdict],
                                                     scope=codec.ENUMS["ApprovalScope"][scope.upper()]),
                          "approval_answered").approval

    def follow_approvals(self, timeout=None):
        """Iterates over Approval messages: those that wait, then each as it is asked, decided or ends.  From the first on
        until this client is closed crewd holds connections.  Ends after timeout seconds without one, or with crewd."""
        seq = self._send("list_approvals", Message("ListApprovals", follow=True))
        try:
            yield from self._answer(seq, ("approval_list",), self.timeout)[1].items
            while True:
                yield self._answer(seq, ("approval_changed",), timeout)[1].approval
        except (RequestTimeout, ConnectionClosed):
            return
        finally:
            self._forget(seq)

    def reload_policy(self, agent="", restart=False):
        """Has policy files read again, for one agent or all: the PolicyReloaded message.  .ok False: nothing has changed."""
        return self._call("reload_policy", Message("ReloadPolicy", agent=agent, restart=restart), "policy_reloaded")

    def plan(self, file="", locked=False):
        """What a crew file (absolute; "": the one in force) would change: the CrewPlan message.  Nothing is done."""
        return self._call("plan_crew", Message("PlanCrew", file=file, locked=locked), "crew_plan")

    def apply(self, file="", plan="", grace_ms=30000, locked=False, timeout=None):
        """Puts a crew file in force, if the digest of its plan is still the one given: the CrewApplied message, when it is
        or when everything is as it was again (.error says why)."""
        return self._call("apply_crew", Message("ApplyCrew", file=file, plan=plan, grace_ms=grace_ms, locked=locked),
                          "crew_applied", timeout=timeout)

    # ---- events ----

    def subscribe(self, since_seq=0):
        """Event messages from now on, and those still held from number since_seq on when that is given."""
        self._send("subscribe", Message("Subscribe", since_seq=since_seq), keep=False)

    def events(self, timeout=None):
        """Iterates over Event messages; ends after timeout seconds without one, or when crewd ends the connection."""
        while True:
            try:
                yield self._wait(lambda: self._events.popleft() if self._events else None, timeout, "event")
            except (RequestTimeout, ConnectionClosed):
                return
