"""What a user should know of a picture that was made as asked, in sentences. Must not import a backend."""

SECOND_TRY = "the FP16 decoder's picture was not finite: decoded again in FP32"


def untaught(model: str, instruction: str, more: int = 0) -> str:
    """A model has no word of an instruction, and of so many further ones."""
    others = f" and {more} more" if more else ""
    return f"{model} was not taught {instruction!r:.80}{others}: `pixrt inspect BUNDLE` lists the instructions it knows"


def cut(text: str, tokens: int) -> str:
    """So many tokens of a text, called `text`, are not used."""
    return f"the last {tokens} tokens of the {text} did not fit the text encoder: left out"
