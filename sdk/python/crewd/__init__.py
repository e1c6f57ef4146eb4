# SPDX-License-Identifier: Apache-2.0
"""Python client of crewd's control socket.  Needs nothing but the standard library; see docs/PROTOCOL.md."""
from .client import (AgentTerminated, Client, ConnectError, ConnectionClosed, CrewdError, NotRunning, ProtocolError, Refused,
                     RequestTimeout, Task, TaskFailed, UnknownAgent, UnknownTask, run_dir)
from .codec import AgentState, Cause, CodecError, Message, Outcome

__all__ = ["AgentState", "AgentTerminated", "Cause", "Client", "CodecError", "ConnectError", "ConnectionClosed",
           "CrewdError", "Message", "NotRunning", "Outcome", "ProtocolError", "Refused", "RequestTimeout", "Task",
           "TaskFailed", "UnknownAgent", "UnknownTask", "run_dir"]
