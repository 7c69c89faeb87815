"""Every word that the pages show, in English and Traditional Chinese.

Decides the wording and nothing else. A key is missing in neither language (a test holds that); `{name}` is filled
in by whoever shows the text. Terms are ISO 22400-2's, with the local one beside it.
"""

from __future__ import annotations

from typing import Final

LANGUAGES: Final = {"en": "English", "zh-Hant": "繁體中文"}
DEFAULT_LANGUAGE: Final = "en"

# key: (English, 繁體中文)
_TABLE: Final[dict[str, tuple[str, str]]] = {
    # everywhere
    "product": ("linetally", "linetally"),
    "tagline": ("A production line's tally that both sides can trust", "雙方都信得過的生產線計數"),
    "overview": ("Overview", "總覽"),
    "lines": ("Lines", "生產線"),
    "line": ("Line", "生產線"),
    "projects": ("Projects", "項目"),
    "project": ("Project", "項目"),
    "sign_in": ("Sign in", "登入"),
    "sign_out": ("Sign out", "登出"),
    "undefined": ("–", "–"),
    "simulated": ("Simulated plant", "模擬工廠"),
    "times_in": ("Times in {zone}", "時間以 {zone} 計"),
    "seconds": ("{n} s", "{n} 秒"),
    "minutes": ("{n} min", "{n} 分鐘"),
    "hours": ("{n} h", "{n} 小時"),
    "comma": (", ", "、"),
    "table_behind": ("The figures as a table", "以表格顯示數字"),
    # hints for undefined figures
    "no-planned-time": ("No planned time was observed yet.", "尚未觀測到任何計劃時間。"),
    "no-production": ("The line has not produced in this time.", "此期間生產線未有生產。"),
    "no-pieces": ("No piece was counted in this time.", "此期間未有計得產品。"),
    "no-ideal-cycle": (
        "A product was made whose ideal cycle time is not configured.",
        "有產品未設定理想週期時間。",
    ),
    "no-time": ("Nothing was observed in this time.", "此期間沒有任何觀測。"),
    "no-busy-time": ("No order was worked on in this time.", "此期間沒有處理任何訂單。"),
    "no-failure": ("No failure began in this time.", "此期間沒有發生故障。"),
    "no-demand": ("No demand is given.", "未有提供需求量。"),
    "not-known": ("Not known.", "未知。"),
    # figures
    "oee": ("OEE", "整體設備效率 OEE"),
    "oee_short": ("OEE", "OEE"),
    "oee_shift": ("OEE of the shift", "本更 OEE"),
    "oee_recent": ("OEE, last 5 minutes", "最近 5 分鐘 OEE"),
    "availability": ("Availability", "可用率 (Availability)"),
    "effectiveness": ("Effectiveness", "效能率 (Effectiveness)"),
    "quality": ("Quality", "合格率 (Quality)"),
    "coverage": ("Coverage", "數據覆蓋率"),
    "coverage_hint": (
        "Observed time divided by planned time. What was not observed counts neither as running nor as stopped.",
        "已觀測時間除以計劃時間。未觀測的時間既不算運行，也不算停機。",
    ),
    "standing_firm": ("", ""),
    "standing_indicative": ("Indicative: coverage under 95 %", "僅供參考：覆蓋率低於 95 %"),
    "standing_withheld": ("Do not rely on it: coverage under 80 %", "不宜採信：覆蓋率低於 80 %"),
    "standing_none": ("No planned time yet", "尚無計劃時間"),
    "too_fast": (
        "Over 100 %: the configured ideal cycle is slower than the line.",
        "超過 100 %：設定的理想週期比實際慢。",
    ),
    "lost": ("lost {what}", "損失 {what}"),
    "lost_nothing": ("nothing lost", "無損失"),
    "gained": ("{what} faster than ideal", "比理想快 {what}"),
    "rejects": ("{count} rejects", "{count} 件不合格"),
    "pieces_good": ("Good pieces", "合格產品"),
    "pieces": ("pieces", "件"),
    "target_now": ("Target by now", "目前目標"),
    "target_shift": ("Target of the shift", "本更目標"),
    "of_target_now": ("of {target} by now", "目前目標 {target}"),
    "of_target_shift": ("shift: {target}", "全更：{target}"),
    "ahead": ("{count} ahead", "超前 {count}"),
    "behind": ("{count} behind", "落後 {count}"),
    "no_target": ("No target: an ideal cycle is missing", "無目標：未設定理想週期"),
    "throughput": ("Throughput now", "目前產量"),
    "an_hour": ("pieces an hour", "件／小時"),
    "trend": ("last 10 minutes", "最近 10 分鐘"),
    "trend_title": ("Pieces an hour over the last 10 minutes", "最近 10 分鐘每小時件數"),
    "of_shift": ("Shift {name}, {day}", "{day} {name} 更"),
    "no_shift": ("Outside every shift", "不在任何更次內"),
    "definition": ("Definition", "定義"),
    # state
    "state": ("State", "狀態"),
    "since": ("since {time}", "自 {time}"),
    "for": ("for {duration}", "已 {duration}"),
    "category_UNKNOWN": ("Not observed", "未觀測"),
    "category_PRODUCING": ("Producing", "生產中"),
    "category_SETUP": ("Set-up", "換線準備"),
    "category_FAILURE": ("Failure", "故障"),
    "category_MINOR_STOP": ("Minor stop", "短暫停機"),
    "category_RESTRAINT": ("Blocked or starved", "堵料／缺料"),
    "category_HELD": ("Held", "暫停"),
    "category_UNASSIGNED": ("Stopped", "停機"),
    "category_NO_ORDER": ("No order", "無訂單"),
    "category_PLANNED_DOWN": ("Planned down", "計劃停機"),
    "category_NOT_SCHEDULED": ("Not scheduled", "非排班時間"),
    "state_UNDEFINED": ("Undefined", "未定義 Undefined"),
    "state_CLEARING": ("Clearing", "清除中 Clearing"),
    "state_STOPPED": ("Stopped", "已停止 Stopped"),
    "state_STARTING": ("Starting", "啟動中 Starting"),
    "state_IDLE": ("Idle", "閒置 Idle"),
    "state_SUSPENDED": ("Suspended", "外部暫停 Suspended"),
    "state_EXECUTE": ("Execute", "執行 Execute"),
    "state_STOPPING": ("Stopping", "停止中 Stopping"),
    "state_ABORTING": ("Aborting", "中止中 Aborting"),
    "state_ABORTED": ("Aborted", "已中止 Aborted"),
    "state_HOLDING": ("Holding", "保持中 Holding"),
    "state_HELD": ("Held", "已保持 Held"),
    "state_UNHOLDING": ("Unholding", "解除保持 Unholding"),
    "state_SUSPENDING": ("Suspending", "暫停中 Suspending"),
    "state_UNSUSPENDING": ("Unsuspending", "解除暫停 Unsuspending"),
    "state_RESETTING": ("Resetting", "重設中 Resetting"),
    "state_COMPLETING": ("Completing", "完成中 Completing"),
    "state_COMPLETE": ("Complete", "已完成 Complete"),
    "ribbon": ("States of the shift", "本更狀態"),
    "ribbon_title": ("What the line did in this shift", "生產線本更的狀態"),
    "stops": ("Last five stops", "最近五次停機"),
    "no_stops": ("No stop in this shift so far.", "本更至今未有停機。"),
    "stop_start": ("Start", "開始"),
    "stop_length": ("Length", "時長"),
    "stop_what": ("What", "類別"),
    "stop_reason": ("Reason", "原因"),
    "no_reason": ("no reason given", "未註明原因"),
    "still": ("still", "進行中"),
    "making": ("Making", "正在生產"),
    "order": ("Order", "訂單"),
    # evidence
    "evidence": ("Evidence", "證據"),
    "last_receipt": ("Last receipt from the log", "日誌最近收據"),
    "receipt_none": ("None yet", "尚無"),
    "receipt_at": ("record {sequence} at {time}", "紀錄 {sequence}，{time}"),
    "spool": ("Waiting on the gateway", "閘道器上等候中"),
    "spool_records": ("{count} records", "{count} 筆紀錄"),
    "gateway": ("Gateway", "閘道器"),
    "gateways": ("Gateways", "閘道器"),
    "log_size": ("Records in the log", "日誌紀錄數"),
    "log_link": ("Checkpoint of the log", "日誌檢查點"),
    "log_origin": ("Log", "日誌"),
    "log_root": ("Root hash", "根雜湊值"),
    "live_unsigned": (
        "Live figures are telemetry for the shop floor. What counts are the signed records in the log.",
        "即時數字僅供現場參考，以日誌中已簽署的紀錄為準。",
    ),
    # silence
    "silent_line": (
        "No data from gateway {gateway} since {time}. Check its power and network.",
        "自 {time} 起沒有收到閘道器 {gateway} 的數據。請檢查其電源及網絡。",
    ),
    "silent_hub": (
        "No connection to the hub since {time}. The figures below have stopped moving.",
        "自 {time} 起與中樞失去連線。下列數字已停止更新。",
    ),
    "never_heard": (
        "No live data from this line yet. Start its gateway's agent, or check its power and network.",
        "尚未收到此生產線的即時數據。請啟動其閘道器的代理程式，或檢查電源及網絡。",
    ),
    "no_live_role": (
        "Your role sees the signed figures in the log, not the live ones.",
        "你的身分可查看日誌內已簽署的數字，不包括即時數字。",
    ),
    "past_lines": ("Measured before, not live now", "曾經量度，現時沒有即時數據"),
    "measured_until": ("measured until {day}", "量度至 {day}"),
    "waiting": ("Waiting for data", "等候數據"),
    "no_lines": (
        "No line is registered yet. A gateway brings its lines when it enrols: linetally-agent enrol.",
        "尚未登記任何生產線。閘道器登記時會帶入其生產線：linetally-agent enrol。",
    ),
    "no_projects": (
        "No project is registered yet: linetally-hub project add.",
        "尚未登記任何項目：linetally-hub project add。",
    ),
    # projects
    "scheme": ("Scheme", "計劃"),
    "enterprise": ("Enterprise", "企業"),
    "period": ("Period", "期間"),
    "baseline": ("Baseline", "基線期"),
    "reporting": ("Reporting period", "報告期"),
    "commissioning": ("Commissioning, left out", "調試期（不計）"),
    "upgrade": ("Upgrade", "升級"),
    "verdict": ("Verdict", "結論"),
    "verdict_improved": ("Improved", "有改善"),
    "verdict_not_shown": ("Not shown", "未能證明"),
    "verdict_worsened": ("Worsened", "變差"),
    "verdict_insufficient": ("Insufficient data", "數據不足"),
    "verdict_words": (
        "{change} good output an hour, {level} % interval {low} to {high}",
        "每小時合格產出 {change}，{level} % 區間 {low} 至 {high}",
    ),
    # why, by the method's stable code; the English page shows the method's own words, which tell the numbers too
    "reason_undefined": (
        "The good output rate is undefined: its baseline is zero or not observed.",
        "合格產出率未能界定：基線期為零或未有觀測。",
    ),
    "reason_interval-below-zero": ("The whole interval lies below zero.", "整個區間低於零。"),
    "reason_interval-holds-zero": ("The interval includes no change.", "區間包含零，即可能沒有變化。"),
    "reason_below-minimum-effect": (
        "The change is smaller than the plan's minimum effect.",
        "變化小於評估方案訂明的最低成效。",
    ),
    "reason_rests-on-estimates": (
        "The change rests on pieces that were estimated over gaps in the data.",
        "變化倚賴數據缺口內估算的件數；扣除後未能證明。",
    ),
    "reason_interval-above-zero": ("The whole interval lies above zero.", "整個區間高於零。"),
    "reason_minimum-effect-reached": (
        "The change reaches the plan's minimum effect.",
        "變化達到評估方案訂明的最低成效。",
    ),
    "reason_too-few-shifts": (
        "A period has fewer shifts with observed planned time than the plan needs.",
        "有期間的已觀測更次少於評估方案的要求。",
    ),
    "reason_nothing-planned": ("A period has no planned time.", "有期間沒有計劃時間。"),
    "reason_coverage-too-low": (
        "The coverage of a period is lower than the plan needs.",
        "有期間的數據覆蓋率低於評估方案的要求。",
    ),
    "reason_too-many-new-products": (
        "New products took more of a period than the plan allows.",
        "新產品所佔時間超過評估方案的上限。",
    ),
    "reason_coverage-differs": (
        "Coverage differs more between the periods than the plan allows.",
        "兩段期間的數據覆蓋率相差超過評估方案的上限。",
    ),
    "verdict_hint": (
        "Good output in the baseline's standard time for each observed planned hour, before and after the upgrade.",
        "以升級前的標準時間計，每一已觀測計劃小時的合格產出，升級前後比較。",
    ),
    "missing_title": ("What is missing for a verdict", "作出結論尚欠"),
    "missing_plan": (
        "The evaluation plan is not in the log yet: linetally-hub plan.",
        "評估方案尚未寫入日誌：linetally-hub plan。",
    ),
    "missing_baseline": (
        "No measured window lies in the baseline period yet.",
        "基線期內尚無任何量測數據。",
    ),
    "missing_reporting": (
        "No measured window lies in the reporting period yet.",
        "報告期內尚無任何量測數據。",
    ),
    "missing_lines": ("No line belongs to this project yet.", "此項目尚無生產線。"),
    "chart_weeks": (
        "Good output an hour by week, before and after the upgrade (baseline = 100)",
        "升級前後每週每小時合格產出（基線期 = 100）",
    ),
    "chart_axis": ("baseline = 100", "基線期 = 100"),
    "chart_mean": ("baseline", "基線期"),
    "index": ("Index", "指數"),
    "computing": ("Computing from the log …", "正由日誌計算…"),
    "of_time": ("of observed planned time", "佔已觀測計劃時間"),
    "points": ("{count} points", "{count} 個百分點"),
    "milestone": ("Milestone", "里程碑"),
    "milestones": ("Milestones", "里程碑"),
    "planned": ("Planned", "計劃"),
    "done": ("Done", "完成"),
    "plan": ("Evaluation plan", "評估方案"),
    "plan_at": ("record {index} of the log", "日誌第 {index} 筆紀錄"),
    "configurations": ("Configurations measured under", "量測所用設定"),
    "definition_hash": ("Definition (SHA-256)", "定義 (SHA-256)"),
    "report": ("Outcome report", "成效報告"),
    "week_of": ("Week of", "週始"),
    "good_per_hour": ("Good an hour", "每小時合格"),
    "before": ("Before", "升級前"),
    "after": ("After", "升級後"),
    "change": ("Change", "變化"),
    "losses": ("Where planned time went", "計劃時間的去向"),
    "losses_hint": ("Share of observed planned time", "佔已觀測計劃時間的比例"),
    "loss_speed": ("Reduced speed", "速度損失"),
    "loss_rejects": ("Rejects", "不合格損失"),
    "loss_good": ("Good output at ideal cycle", "理想週期下的合格產出"),
    "checkpoint": ("Last checkpoint", "最近檢查點"),
    "checkpoint_of": ("{size} records, root {root}", "{size} 筆紀錄，根雜湊值 {root}"),
    "health_active": ("Active", "運作中"),
    "health_pending": ("Waiting for approval", "等候批准"),
    "health_revoked": ("Revoked", "已撤銷"),
    "fingerprint": ("Key fingerprint", "密鑰指紋"),
    "last_record": ("Last record", "最近紀錄"),
    "records": ("Records", "紀錄"),
    "gaps": ("Gaps", "缺口"),
    "none": ("none", "無"),
    "make_report": ("Make outcome report", "製作成效報告"),
    "making_report": ("Making the report … {seconds} s", "正在製作報告…… {seconds} 秒"),
    "report_ready": ("The report is ready, as of {size} records in the log.", "報告已備妥，截至日誌第 {size} 筆紀錄。"),
    "report_failed": ("The report could not be made: {why}", "未能製作報告：{why}"),
    "download_bundle": ("Download bundle (ZIP)", "下載證據包 (ZIP)"),
    "download_pdf": ("Download PDF", "下載 PDF"),
    "verify_title": ("How to verify, offline, without trusting this hub", "如何離線驗證，無須信任本中樞"),
    "verify_1": (
        "Install the verifier from its source: pip install '.[verify]'",
        "由原始碼安裝驗證程式：pip install '.[verify]'",
    ),
    "verify_2": (
        "Get the trust policy from the scheme's own publication, not from here.",
        "從計劃自身的公布取得信任政策，而非從此處。",
    ),
    "verify_3": (
        "Run: linetally-verify BUNDLE.zip --policy POLICY",
        "執行：linetally-verify BUNDLE.zip --policy POLICY",
    ),
    "custody": (
        "A signature proves custody from the gateway on, not that the PLC told the truth.",
        "簽署證明的是由閘道器起的保管鏈，並不證明 PLC 所報屬實。",
    ),
    # sign-in and errors
    "token": ("Access token", "存取權杖"),
    "token_hint": (
        "Paste the token that the secretariat gave you. It stays in this browser until you sign out.",
        "貼上秘書處給你的權杖。登出前會保留在此瀏覽器。",
    ),
    "token_wrong": ("This token is not known or has expired.", "此權杖不明或已過期。"),
    "signed_in_as": ("Signed in as {name}", "以 {name} 身分登入"),
    "local_operator": ("Local operator", "本機操作員"),
    "not_found": ("There is no such page, or it is not yours to see.", "沒有此頁面，或你無權查看。"),
    "back": ("Back to the overview", "返回總覽"),
    "language": ("Language", "語言"),
    "role_manufacturer": ("manufacturer", "製造商"),
    "role_secretariat": ("secretariat", "秘書處"),
    "role_committee": ("committee", "評審委員會"),
    "role_auditor": ("auditor", "審計員"),
    "role_operator": ("operator", "操作員"),
}

TABLES: Final[dict[str, dict[str, str]]] = {
    language: {key: words[i] for key, words in _TABLE.items()} for i, language in enumerate(LANGUAGES)
}


def language_of(wanted: str | None, cookie: str | None, accept: str | None) -> str:
    """The language of a request: `?lang=`, then the cookie, then the browser's list, then English."""
    for choice in (wanted, cookie):
        if choice in LANGUAGES:
            return choice
    for entry in (accept or "").split(","):
        tag = entry.split(";")[0].strip().lower()
        if tag.startswith("zh"):
            return "zh-Hant"
        if tag.startswith("en"):
            return "en"
    return DEFAULT_LANGUAGE
