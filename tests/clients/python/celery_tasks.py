"""The Celery application of celery_suite.py; the suite's workers import it too."""

import os
import signal

from celery import Celery

NAME = os.environ["ROADSTEAD_CELERY_NAME"]

app = Celery("roadstead", broker=os.environ["AMQP_URI"], backend="rpc://")
app.conf.update(
    task_default_queue=NAME,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    control_exchange=NAME,
    event_exchange=f"{NAME}.events",
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)


@app.task
def add(left, right):
    return left + right


@app.task
def echo(value):
    return value


@app.task
def fail(reason):
    raise ValueError(reason)


@app.task(bind=True, max_retries=3)
def succeed_at_third_try(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(bind=True)
def kill_worker_once(self):
    """Needs the solo pool, in which the task runs in the worker's own process."""
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "redelivered"


@app.task
def note(path, text):
    with open(path, "a", encoding="utf-8") as file:
        file.write(text + "\n")
