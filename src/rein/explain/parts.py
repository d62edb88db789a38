"""The parts of the page in their order: what each is called, and what it says in two sentences."""

from __future__ import annotations

from dataclasses import dataclass

ARCHITECTURE, SAMPLING = "book/architecture", "book/sampling"


@dataclass(frozen=True)
class Part:
    """One part of the page.

    Fields:
        chapter: its anchor here and, if `section`, in the book.
        title, short: its heading, and its name in the list of parts.
        said: two sentences that say what is seen.
        page: of the book, that tells more.
        with_picture: what is said instead where a picture to start from is under the noise.
    """

    chapter: str
    title: str
    short: str
    said: str
    page: str = ARCHITECTURE
    section: bool = True
    with_picture: str = ""


PARTS = (
    Part(
        "words",
        "The words",
        "words",
        "A sentence and one number, the seed, are all that the machine is given; the same two make the same picture "
        "again. No picture is looked up anywhere: everything below is computed from what the networks learned.",
    ),
    Part(
        "tokens",
        "Words become tokens and numbers",
        "tokens",
        "A network computes with numbers, so the sentence is cut into pieces from a fixed list, the vocabulary, and "
        "each piece becomes its number in that list. Frequent words are one piece, rare ones several; a start, an end "
        "and padding fill the row to its full length.",
    ),
    Part(
        "text-tower",
        "The text tower reads them together",
        "text tower",
        "Each token starts as a vector that knows nothing of its neighbours, and layer by layer it gathers from the "
        "tokens before it what it needs: so “apple” can come to mean an apple that is red. Bright squares show "
        "which token (row) looked at which (column); the upper right stays dark because nothing looks ahead.",
    ),
    Part(
        "given",
        "What it was given besides the words",
        "given",
        "A picture can begin with another picture, keep a part of it, follow a map, or be drawn by networks that a "
        "small file changes. Here is what the machine was given and what each of it changes in the parts that follow.",
        "changing",
        section=False,
    ),
    Part(
        "noise",
        "It starts from noise",
        "noise",
        "The seed sets off a random number generator, and its numbers are the first latents: a small, many-layered "
        "picture that is nothing but noise. They follow the bell curve, and nothing of the words is in them yet.",
        SAMPLING,
        with_picture="The seed sets off a random number generator, and its numbers are laid over the latents of the "
        "picture to start from, as strong as the first step has it. What shows through decides what stays.",
    ),
    Part(
        "schedule",
        "How the noise is to go down",
        "schedule",
        "The noise level, sigma, says how much stronger noise is than picture, and the dots are the levels that this "
        "picture visits on its way down to none. Early steps decide what is where, late ones only detail, because by "
        "then the signal (right scale, in decibels) is far above the noise.",
        SAMPLING,
    ),
    Part(
        "steps",
        "Step by step",
        "steps",
        "At every step the U-Net looks at the noisy latents and says what finished picture it believes to be behind "
        "them; the sampler then moves a little way towards it. Move the slider: the belief starts as a blur and "
        "becomes a picture long before the noise is gone.",
        SAMPLING,
    ),
    Part(
        "guidance",
        "What guidance added",
        "guidance",
        "The U-Net answers twice, with your words and without, and guidance exaggerates the difference, so that the "
        "words count for more. The curves show how much it added to the answer with words, and whether it kept pulling "
        "in the same direction (1) or turned aside (0).",
        SAMPLING,
    ),
    Part(
        "attention",
        "Which word acted where",
        "words in the picture",
        "Inside the U-Net every place of the picture asks all tokens what belongs there; the brighter a place, the "
        "more it listened to that word compared with other places. The percentage is the word's share of all "
        "listening; the rest goes to the start and end marks, where places look that need no word.",
    ),
    Part(
        "decoder",
        "The decoder makes pixels",
        "decoder",
        "The finished latents are small and have more layers than a picture has colours; no layer is a colour by "
        "itself. The decoder, one half of the autoencoder, has learned to draw from them every pixel at full size.",
    ),
)
