"""Style and script of the report's page, inside it: nothing is loaded from anywhere.

Blue and orange of Okabe and Ito are told apart by every kind of colour vision; the reference always stands
before the live rows, and what is out of range, unseen or missing is hatched.
"""

STYLE = """
:root{color-scheme:light dark;--page:#fff;--card:#f6f7f8;--ink:#1b1f23;--soft:#57606a;--rule:#d0d5da;
--ref:#0072b2;--live:#d55e00;--high:#a40e26;--some:#7a4d00;--low:#1a6b33}
@media(prefers-color-scheme:dark){:root{--page:#14171a;--card:#1d2125;--ink:#e8eaed;--soft:#a9b1ba;--rule:#3a4149;
--ref:#56b4e9;--live:#f0a33f;--high:#ff9aa2;--some:#f0c35c;--low:#7fd69a}}
body{margin:0 auto;max-width:1240px;padding:1rem;background:var(--page);color:var(--ink);
font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.05rem;margin:0;overflow-wrap:anywhere}
a{color:inherit}p{margin:.4rem 0}.soft,caption{color:var(--soft)}
.note{border-left:4px solid var(--some);padding:.4rem .8rem;background:var(--card)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.6rem 0}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.3rem 0}
th,td{padding:.2rem .6rem .2rem 0;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child,.left{text-align:left}td:first-child{white-space:normal;overflow-wrap:anywhere;
min-width:10rem}
thead th{position:sticky;top:0;background:var(--page)}
th button{all:unset;cursor:pointer;text-decoration:underline dotted}th button:focus-visible{outline:2px solid}
.high{color:var(--high);font-weight:600}.some{color:var(--some);font-weight:600}.low{color:var(--low)}
section{background:var(--card);border-radius:8px;padding:.8rem 1rem;margin:1rem 0;
content-visibility:auto;contain-intrinsic-size:auto 420px}
.plots{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,1fr);gap:.4rem 1.2rem;align-items:start}
@media(max-width:760px){.plots{grid-template-columns:1fr}}
figure{margin:0}figcaption{color:var(--soft);font-size:.85rem}figure svg{width:100%;height:auto}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .2em 0 .8em}
.key.r{background:var(--ref)}.key.l{background:var(--live)}
.r{fill:var(--ref)}.l{fill:var(--live)}.r.o{fill:url(#hr);stroke:var(--ref)}.l.o{fill:url(#hl);stroke:var(--live)}
.hr{stroke:var(--ref)}.hl{stroke:var(--live)}
.g{fill:none;stroke:var(--rule)}.t{fill:var(--soft);font:11px system-ui,sans-serif}
.s{fill:none;stroke:var(--live);stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
.apart{position:absolute}.none{color:var(--soft);font-size:.85rem}
input{font:inherit;padding:.3rem .5rem;background:var(--page);color:var(--ink);border:1px solid var(--soft);
border-radius:4px}summary{cursor:pointer;color:var(--soft);font-size:.85rem}
@media print{section{break-inside:avoid;content-visibility:visible}[data-script]{display:none}}
""".strip()

SCRIPT = """
(function(){
var table=document.getElementById('summary'),body=table.tBodies[0],rows=Array.from(body.rows);
var field=document.getElementById('filter');
document.querySelector('[data-script]').hidden=false;
field.addEventListener('input',function(){
 var wanted=field.value.toLowerCase();
 rows.forEach(function(row){
  var off=row.cells[0].textContent.toLowerCase().indexOf(wanted)<0;
  row.hidden=off;
  var shown=document.getElementById(row.dataset.of);
  if(shown)shown.hidden=off;
 });
});
function key(row,at){
 var cell=row.cells[at],value=cell.dataset.v;
 return value===undefined?cell.textContent.toLowerCase():value===''?-Infinity:parseFloat(value);
}
Array.from(table.tHead.rows[0].cells).forEach(function(head,at){
 if(!head.dataset.sort)return;
 var button=document.createElement('button'),up=head.dataset.sort==='text';
 button.type='button';button.textContent=head.textContent;
 head.textContent='';head.appendChild(button);
 button.addEventListener('click',function(){
  var sign=up?1:-1;
  rows.sort(function(a,b){var x=key(a,at),y=key(b,at);return x<y?-sign:x>y?sign:0;});
  Array.from(table.tHead.rows[0].cells).forEach(function(one){one.removeAttribute('aria-sort');});
  head.setAttribute('aria-sort',up?'ascending':'descending');
  rows.forEach(function(row){body.appendChild(row);});
  up=!up;
 });
});
})();
""".strip()

HATCHES = (
    '<svg class="apart" width="0" height="0" aria-hidden="true"><defs>'
    + "".join(
        f'<pattern id="{name}" width="5" height="5" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)">'
        f'<path class="{name}" d="M1 0V5" stroke-width="2"/></pattern>'
        for name in ("hr", "hl")
    )
    + "</defs></svg>"
)
