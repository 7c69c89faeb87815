"""The words of the operator's page, in English and Traditional Chinese; categories as on the hub's pages.

Decides the two languages; every key is in both.
"""

from __future__ import annotations

from typing import Final

ENGLISH: Final = {
    "title": "Reasons and rejects", "other": "繁體中文", "stops": "The last stops", "no_stops": "No stop is known yet.",
    "reason": "Reason", "who": "Your name", "why": "Remark", "send": "Send", "give": "Give a reason",
    "change": "Change", "rejects": "Rejects found later", "from": "Made from", "to": "to", "count": "Bad pieces",
    "sent": "What was sent", "waiting": "waits to be signed", "signed": "signed", "refused": "refused",
    "nothing": "Nothing yet.", "done": "Thank you. It is kept, and will be signed with your name.",
    "min": "min", "s": "s",
    "pin": "PIN", "enter": "Enter", "wrong_pin": "That is not the PIN.", "wait": "Too many wrong PINs; wait a minute.",
    "by_operator": "said by the operator", "zone": "Times are those of",
    "stale": "The page was too old. Here it is again: please look, and send.",
    "no_reason": "no reason yet", "cannot": "This cannot be taken",
    "note": "What was measured is never changed; this is signed beside it.",
}  # fmt: skip
CHINESE: Final = {
    "title": "停機原因及不良品", "other": "English", "stops": "最近的停機", "no_stops": "尚未有停機紀錄。",
    "reason": "原因", "who": "您的姓名", "why": "備註", "send": "送出", "give": "填寫原因",
    "change": "更改", "rejects": "事後發現的不良品", "from": "生產時間由", "to": "至", "count": "不良品數量",
    "sent": "已送出的資料", "waiting": "等候簽署", "signed": "已簽署", "refused": "不獲接納",
    "nothing": "尚未有資料。", "done": "多謝。資料已保存，將連同您的姓名簽署。", "min": "分", "s": "秒",
    "pin": "密碼", "enter": "進入", "wrong_pin": "密碼不正確。", "wait": "密碼錯誤次數過多，請稍候一分鐘。",
    "by_operator": "操作員提供", "zone": "時間所屬時區：", "stale": "頁面已過時，資料仍在下方，請核對後再次送出。",
    "no_reason": "未有原因", "cannot": "未能接納",
    "note": "已量度的數據不會更改；此項會另行簽署並列。",
}  # fmt: skip
CATEGORIES: Final = {
    "UNKNOWN": ("Not observed", "未觀測"),
    "PRODUCING": ("Producing", "生產中"),
    "SETUP": ("Set-up", "換線準備"),
    "FAILURE": ("Failure", "故障"),
    "MINOR_STOP": ("Minor stop", "短暫停機"),
    "RESTRAINT": ("Blocked or starved", "堵料／缺料"),
    "HELD": ("Held", "暫停"),
    "UNASSIGNED": ("Stopped", "停機"),
    "NO_ORDER": ("No order", "無訂單"),
    "PLANNED_DOWN": ("Planned down", "計劃停機"),
    "NOT_SCHEDULED": ("Not scheduled", "非排班時間"),
}
STYLE: Final = """\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--soft:#5a636e;--line:#c9d0d8;--accent:#0b5cad;--bad:#a3200d;
--good:#17612f;--field:#f5f7f9}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebee;--paper:#14171a;--soft:#a4adb7;--line:#3b434c;--accent:#7ab8f5;
--bad:#ff9d8a;--good:#84d69b;--field:#20252a}}
*{box-sizing:border-box}body{margin:0 auto;max-width:44rem;padding:1rem;font:1.05rem/1.45 system-ui,"Noto Sans CJK TC",
"Noto Sans TC",sans-serif;color:var(--ink);background:var(--paper)}
header{display:flex;justify-content:space-between;align-items:baseline;gap:1rem}h1{font-size:1.35rem;margin:.2rem 0}
h2{font-size:1.1rem;margin:1.6rem 0 .3rem}p.soft,.soft{color:var(--soft);font-size:.92rem}a{color:var(--accent)}
ul{list-style:none;margin:0;padding:0}li{border-top:1px solid var(--line);padding:.55rem 0}
summary{cursor:pointer;min-height:2.75rem;display:flex;flex-wrap:wrap;gap:.2rem .8rem;align-items:center}
li summary a{margin-left:auto}summary b{min-width:7.5rem;font-variant-numeric:tabular-nums}summary .soft{flex:1 1 auto}
label{display:block;margin:.6rem 0 0}input{width:100%;font:inherit;padding:.6rem;min-height:2.75rem;color:inherit;
background:var(--field);border:1px solid var(--soft);border-radius:.35rem}
button{font:inherit;font-weight:600;margin-top:.9rem;min-height:2.75rem;padding:.5rem 1.4rem;border:0;
border-radius:.35rem;background:var(--accent);color:var(--paper)}
.row{display:grid;grid-template-columns:1fr 1fr;gap:0 .8rem}
@media(max-width:26rem){.row{grid-template-columns:1fr}}
.good,.bad{padding:.7rem .9rem;border-left:.3rem solid;margin:.8rem 0;background:var(--field)}.good{color:var(--good)}
.bad{color:var(--bad)}:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
"""


def words(language: str) -> dict[str, str]:
    """Of "en" or "zh"."""
    return CHINESE if language == "zh" else ENGLISH


def category(name: str, language: str) -> str:
    found = CATEGORIES.get(name)
    return name.replace("_", " ").lower() if found is None else found[language == "zh"]
