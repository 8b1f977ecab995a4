// The executable: everything is in the `Node` module, where tests can reach it.
import Node

MartletCommand.runProcess()
