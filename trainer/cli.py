"""The trainer's verbs, which `stochcon` hands on to. Nothing heavy is imported until one runs."""

from trainer.commands.evaluate import evaluate
from trainer.commands.export import export
from trainer.commands.finetune import finetune
from trainer.commands.probe import probe
from trainer.commands.report import report
from trainer.commands.train import train

VERBS = (train, finetune, probe, evaluate, report, export)
