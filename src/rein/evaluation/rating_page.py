"""The page on which people rate: one pair at a time, by mouse, finger or keyboard. It works from a file and offline.

Votes are kept in the browser as they are given, and saved as a file at the end; where the page is served
(`rein evaluate rate --serve`), each is also sent at once. Pictures are drawn into the page anew, so that nothing in
them says who made them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from rein.evaluation.features import as_rgb
from rein.evaluation.page import png_bytes
from rein.evaluation.picture_lists import PictureList
from rein.evaluation.rating import Study
from rein.html import Markup, Page, data_uri, tag

_STYLE = """
.vote{display:grid;grid-template-columns:1fr 1fr;gap:1rem;margin:1rem 0}
.vote figure{cursor:pointer;border:2px solid transparent;border-radius:10px;padding:.4rem}
.vote figure:hover{border-color:var(--c0)}
.vote img{width:100%;max-height:60vh;object-fit:contain;image-rendering:auto}
.said{display:flex;flex-wrap:wrap;gap:.6rem;align-items:center;justify-content:center;margin:1rem 0}
.said button,.save{font:inherit;border:1px solid var(--line);border-radius:8px;background:var(--tint);color:var(--ink);
padding:.5rem 1rem;cursor:pointer;text-decoration:none;display:inline-block}
.said button:disabled{opacity:.4;cursor:default}
.prompt{font-size:1.15rem;text-align:center;margin:1rem auto}.how{text-align:center;margin:.5rem auto}
[hidden]{display:none!important}
.said label{text-align:center}
input.rater{font:inherit;padding:.3rem .6rem;border:1px solid var(--line);border-radius:8px;background:var(--card);
color:var(--ink)}
"""

_SCRIPT = """
(function(){
var study=JSON.parse(document.getElementById('study').textContent),box=document.getElementById('vote'),
images=box.querySelectorAll('img'),prompt=document.querySelector('.prompt'),how=document.querySelector('.how'),
rater=document.querySelector('.rater'),save=document.querySelector('.save'),
buttons=document.querySelectorAll('.said button'),key='rein-votes-'+study.id,kept={},votes,place=0,
line=Promise.resolve();
try{kept=JSON.parse(localStorage.getItem(key))||{}}catch(e){}
votes=kept.votes=kept.votes||{};rater.value=kept.name||'';
kept.nobody=kept.nobody||'unnamed '+Math.random().toString(36).slice(2,8);
function keep(){kept.name=rater.value.trim();try{localStorage.setItem(key,JSON.stringify(kept))}catch(e){}}
// Votes that are stored one by one must all have one name: without one they are those of this browser.
function name(){return rater.value.trim()||(study.post?kept.nobody:'')}
function lines(){return study.pairs.filter(function(p){return votes[p.key]}).map(function(p){
return JSON.stringify(Object.assign({},votes[p.key],{rater:name()}))+'\\n'}).join('')}
function show(){
var done=study.pairs.filter(function(p){return votes[p.key]}).length,pair=study.pairs[place],over=!pair;
how.textContent=over?'All '+study.pairs.length+' pairs are rated. '+
(study.post?'Every vote is stored: you may close the page.':'Save the votes and send the file back.'):
'Pair '+(place+1)+' of '+study.pairs.length+', '+done+' rated';
box.hidden=over;prompt.textContent=over?'':pair.prompt;
if(!over){images[0].src=pair.left;images[1].src=pair.right}
buttons.forEach(function(b){b.disabled=b.dataset.choice?over:place===0});
rater.disabled=Boolean(study.post&&done);save.hidden=!done;
save.href='data:application/x-ndjson;charset=utf-8,'+encodeURIComponent(lines())}
function send(vote){if(!study.post)return;  // one after another: of two votes on a pair the later one counts
line=line.then(function(){return fetch(study.post,{method:'POST',headers:{'Content-Type':'application/json'},
body:JSON.stringify(vote)})}).then(function(r){if(!r.ok)throw 0}).catch(function(){
how.textContent='This vote was not stored: is the program still running?'})}
function choose(choice){var pair=study.pairs[place];if(!pair)return;
var vote={study:study.id,pair:pair.key,choice:choice,rater:name(),at:new Date().toISOString()};
votes[pair.key]=vote;keep();place++;show();send(vote)}
function back(){if(place>0){place--;show()}}
buttons.forEach(function(b){b.addEventListener('click',function(){b.dataset.choice?choose(b.dataset.choice):back()})});
box.querySelectorAll('figure').forEach(function(f,i){f.addEventListener('click',function(){choose(i?'right':'left')})});
rater.addEventListener('input',function(){keep();show()});
document.addEventListener('keydown',function(e){if(e.target===rater)return;
var choice={ArrowLeft:'left',ArrowRight:'right',ArrowDown:'same'}[e.key];
if(choice){e.preventDefault();choose(choice)}else if(e.key==='Backspace'){e.preventDefault();back()}});
while(study.pairs[place]&&votes[study.pairs[place].key])place++;
show()})();
"""


def rating_page(study: Study, lists: Sequence[PictureList], post: str | None = None) -> Page:
    """The page of a study. `post` is the address, of the page's own server, that votes are sent to.

    Raises:
        DamagedFileError: a picture cannot be read.
    """
    places = [{name: place for place, name in enumerate(pictures.names)} for pictures in lists]

    def shown(side: tuple[int, str]) -> str:
        entrant, name = side
        return data_uri(png_bytes(as_rgb(lists[entrant][places[entrant][name]])))

    pairs = [
        {"key": pair.key, "prompt": pair.prompt, "left": shown(pair.left), "right": shown(pair.right)}
        for pair in study.pairs
    ]
    data = {"id": study.id, "post": post, "pairs": pairs}
    # Within a script element only "<" could end it.
    content = Markup(json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"))
    page = Page(
        "Which is better?",
        "Two pictures of the same words. Choose the one that shows them better, or is made better; trust your eye.",
        style=_STYLE,
        script=_SCRIPT,
        connects=post is not None,
    )
    figures = [tag("figure", tag("img", src="data:,", alt=f"the {side} picture"), data_choice=side) for side in _SIDES]
    buttons = [
        tag("button", words, type="button", data_choice=choice)
        for words, choice in (("← Left", "left"), ("↓ The same", "same"), ("Right →", "right"))
    ]
    page.add(
        tag("script", content, type="application/json", id="study"),
        tag("noscript", tag("p", "This page needs JavaScript, which runs from the page itself.")),
        tag("p", class_="prompt"),
        tag("div", *figures, class_="vote", id="vote"),
        tag("div", *buttons, tag("button", "Back", type="button"), class_="said"),
        tag("p", class_="how", aria_live="polite"),
        tag(
            "div",
            tag("label", "Your name, if you like: ", tag("input", class_="rater", maxlength=60)),
            tag("a", "Save the votes", class_="save", download=f"votes-{study.id}.jsonl", hidden=True),
            class_="said",
        ),
    )
    return page


_SIDES = ("left", "right")
