# dashboard.py
from bokeh.document import Document
from bokeh.layouts import column
from bokeh.models.widgets import Div, TextInput


def dashboard(document: Document) -> None:
    question, answer = TextInput(title="Question", name="question"), Div(name="answer")

    def on_question(attribute: str, old: str, new: str) -> None:
        answer.text = f"You asked: {new}"

    question.on_change("value", on_question)
    document.add_root(column(question, answer))
    document.title = "Dashboard"
