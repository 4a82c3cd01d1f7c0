"""Run one command, from judgement to the end of its process group."""
