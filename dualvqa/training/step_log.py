"""What is logged of the steps of a run: means since the last time, and how the loss was weighed."""

import time

import torch

from .clock import measured


class StepLogMixin:
    """The sums behind the log of [`DualHeadTrainer`]. It overrides `log` of transformers 5.23's Trainer."""

    def start_counting(self):
        """Sets to nothing what is summed up in a run, some of it since the last logging step."""
        self.loss_sums, self.sums_start, self.questions, self.seconds = {}, 0, 0, 0
        self.weights_in_force, self.learning_rates = dict(self.criterion.task_weighting.weights), {}
        self.step_statistics, self.runtime_before, self.evaluation_seconds = None, 0.0, 0.0

    def observe(self, step, questions):
        """Adds a micro-batch's [`StepLoss`] to what is logged, and to what the next step's weights come from."""
        for task, part in {**step.parts, **step.besides}.items():
            self.loss_sums[task] = self.loss_sums.get(task, 0) + part.detach()
        self.questions += questions
        scaler = getattr(self.accelerator, "scaler", None)
        scale = scaler.get_scale() if scaler else 1.0
        found = self.criterion.task_weighting.statistics(step.parts, self.fused_state, scale)
        self.fused_state = None
        if found is not None:
            self.step_statistics = found if self.step_statistics is None else self.step_statistics + found

    def log(self, logs, start_time=None):
        """Adds to the training loss what it is made of, and to the end of training the time before it was resumed.

        Means since the last time: each head's own loss, and questions per second of training, reading included and
        evaluation left out. As they are: the heads' weights in the last step, and each tower's learning rate.
        """
        steps = self.state.global_step - self.sums_start
        if "loss" in logs and steps > 0:
            for task, total in self.loss_sums.items():
                logs[f"{task}_loss"] = self.over_processes(total).item() / steps
            logs |= {f"{task}_weight": weight for task, weight in self.weights_in_force.items()}
            logs |= self.learning_rates
            questions = torch.tensor(float(self.questions), device=self.args.device)
            logs["questions_per_second"] = round(self.over_processes(questions).item() / self.seconds, 3)
            self.loss_sums, self.sums_start = {}, self.state.global_step
            self.questions = self.seconds = 0
        measured(logs, self.evaluation_seconds if "train_loss" not in logs else time.perf_counter() - self.started)
        if "train_loss" in logs:
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
            logs["train_runtime"] = round(logs["train_runtime"] + self.runtime_before, 4)
        super().log(logs, start_time)
