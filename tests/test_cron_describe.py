"""Cron in words: a table in both languages, and the property that no sentence says two different things."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

import pytest

from atlas.scheduler.cron.expression import CronExpression
from atlas.scheduler.errors import CronExpressionError

if TYPE_CHECKING:
    from atlas.scheduler.cron.fields import CronFields

TABLE = [
    # Beats
    ("* * * * * *", "every second", "每秒"),
    ("*/10 * * * * *", "every 10 seconds", "每 10 秒"),
    ("5/15 * * * * *", "every 15 seconds from :00:05", "每 15 秒（从 00 分 05 秒起）"),
    ("* * * * *", "every minute", "每分钟"),
    ("30 * * * * *", "every minute at second 30", "每分钟的第 30 秒"),
    ("*/10 * * * *", "every 10 minutes", "每 10 分钟"),
    ("*/30 * * * *", "every 30 minutes", "每 30 分钟"),
    ("0-59/15 * * * *", "every 15 minutes", "每 15 分钟"),
    ("5/15 * * * *", "every 15 minutes from :05", "每 15 分钟（从 05 分起）"),
    ("30 */5 * * * *", "every 5 minutes from :00:30", "每 5 分钟（从 00 分 30 秒起）"),
    ("@hourly", "every hour", "每小时"),
    ("33 * * * *", "hourly at :33", "每小时 33 分"),
    ("10 33 * * * *", "hourly at :33:10", "每小时 33 分 10 秒"),
    ("5,35 * * * *", "hourly at :05 and :35", "每小时 05、35 分"),
    ("10-40/10 * * * *", "hourly at :10, :20, :30 and :40", "每小时 10、20、30、40 分"),
    ("0,30 5 * * * *", "hourly at :05:00 and :05:30", "每小时 05 分 00 秒、05 分 30 秒"),
    ("0 */4 * * *", "every 4 hours", "每 4 小时"),
    ("15 */4 * * *", "every 4 hours at :15", "每 4 小时的 15 分"),
    ("15 1/4 * * *", "every 4 hours from 01:15", "每 4 小时（从 01:15 起）"),
    # Stretches of the day
    ("0 9-17 * * *", "every hour from 09:00 to 17:00", "09:00 至 17:00 每小时"),
    ("15 9-17 * * *", "every hour from 09:15 to 17:15", "09:15 至 17:15 每小时"),
    ("* 9-17 * * *", "every minute from 09:00 to 17:59", "09:00 至 17:59 每分钟"),
    ("*/10 9 * * *", "every 10 minutes from 09:00 to 09:50", "09:00 至 09:50 每 10 分钟"),
    ("*/7 9 * * *", "every 7 minutes from 09:00 to 09:56", "09:00 至 09:56 每 7 分钟"),
    ("0-29 9 * * *", "every minute from 09:00 to 09:29", "09:00 至 09:29 每分钟"),
    ("5,35 9-17 * * *", "every 30 minutes from 09:05 to 17:35", "09:05 至 17:35 每 30 分钟"),
    ("* 30 9 * * *", "every second from 09:30:00 to 09:30:59", "09:30:00 至 09:30:59 每秒"),
    ("*/15 0-9 9 * * *", "every 15 seconds from 09:00:00 to 09:09:45", "09:00:00 至 09:09:45 每 15 秒"),
    (
        "*/5 8-11,14-17 * * *",
        "every 5 minutes from 08:00 to 11:55 and from 14:00 to 17:55",
        "08:00 至 11:55、14:00 至 17:55 每 5 分钟",
    ),
    (
        "0 8-11,14-17 * * *",
        "every hour from 08:00 to 11:00 and from 14:00 to 17:00",
        "08:00 至 11:00、14:00 至 17:00 每小时",
    ),
    # Times of day
    ("0 2 * * *", "daily at 02:00", "每天 02:00"),
    ("@midnight", "daily at 00:00", "每天 00:00"),
    ("30 0 2 * * *", "daily at 02:00:30", "每天 02:00:30"),
    ("0,30 0 2 * * *", "daily at 02:00:00 and 02:00:30", "每天 02:00:00、02:00:30"),
    ("*/30 9 * * *", "daily at 09:00 and 09:30", "每天 09:00、09:30"),
    ("0 22-23,0-1 * * *", "daily at 00:00, 01:00, 22:00 and 23:00", "每天 00:00、01:00、22:00、23:00"),
    # Days of the week
    ("0 9 * * mon-fri", "weekdays (Mon to Fri) at 09:00", "周一至周五 09:00"),
    ("0 2 * * 1-5", "weekdays (Mon to Fri) at 02:00", "周一至周五 02:00"),
    ("0 11 * * sat,sun", "weekends (Sat and Sun) at 11:00", "周六、周日 11:00"),
    ("@weekly", "every Sunday at 00:00", "每周日 00:00"),
    ("0 9,17 * * 1", "every Monday at 09:00 and 17:00", "每周一 09:00、17:00"),
    ("0 9 * * mon,wed,fri", "every Monday, Wednesday and Friday at 09:00", "周一、周三、周五 09:00"),
    ("0 9 * * tue-thu", "Tuesday to Thursday at 09:00", "周二至周四 09:00"),
    ("0 9 * * 6,7,1", "Saturday to Monday at 09:00", "周六至周一 09:00"),
    ("*/5 * * * fri", "every 5 minutes on Fridays", "每周五每 5 分钟"),
    ("*/5 * * * 1,4", "every 5 minutes on Mondays and Thursdays", "周一、周四每 5 分钟"),
    ("*/5 * * * 2-4", "every 5 minutes from Tuesday to Thursday", "周二至周四每 5 分钟"),
    (
        "*/10 9-17 * * 1-5",
        "every 10 minutes from 09:00 to 17:50 on weekdays (Mon to Fri)",
        "周一至周五 09:00 至 17:50 每 10 分钟",
    ),
    ("0 9 * * */2", "every Tuesday, Thursday, Saturday and Sunday at 09:00", "周二、周四、周六、周日 09:00"),
    # Dates
    ("@monthly", "on day 1 of every month at 00:00", "每月 1 日 00:00"),
    ("0 0 1,15 * *", "on days 1 and 15 of every month at 00:00", "每月 1 日、15 日 00:00"),
    ("0 0 1-7 * *", "on days 1 to 7 of every month at 00:00", "每月 1 日至 7 日 00:00"),
    ("0 0 */2 * *", "on every 2nd day from 1 to 31 of every month at 00:00", "每月 1 日至 31 日每 2 天 00:00"),
    ("*/5 * 1 * *", "every 5 minutes on day 1 of every month", "每月 1 日每 5 分钟"),
    ("@yearly", "every year on January 1 at 00:00", "每年 1 月 1 日 00:00"),
    ("0 9 25 dec *", "every year on December 25 at 09:00", "每年 12 月 25 日 09:00"),
    ("*/5 * 25 12 *", "every 5 minutes on December 25", "每年 12 月 25 日每 5 分钟"),
    ("0 0 1,15 3 *", "every year on days 1 and 15 of March at 00:00", "每年 3 月 1 日、15 日 00:00"),
    (
        "0 0 1 */3 *",
        "on day 1 of January, April, July and October at 00:00",
        "每年 1 月、4 月、7 月、10 月的 1 日 00:00",
    ),
    ("0 0 1 6-8 *", "on day 1 of every month from June to August at 00:00", "每年 6 月至 8 月的 1 日 00:00"),
    ("0 9 * 1 *", "every day in January at 09:00", "每年 1 月每天 09:00"),
    ("0 9 * jun-aug *", "every day from June to August at 09:00", "每年 6 月至 8 月每天 09:00"),
    ("*/10 * * 1 *", "every 10 minutes in January", "每年 1 月每天每 10 分钟"),
    ("0 9 * 1,2 1-5", "weekdays (Mon to Fri) in January and February at 09:00", "每年 1 月、2 月的周一至周五 09:00"),
    ("0 9 * 1 mon", "every Monday in January at 09:00", "每年 1 月的每周一 09:00"),
    # The day rule: either is enough
    ("0 0 13 * fri", "on day 13 of every month as well as on Fridays, at 00:00", "每月 13 日以及每周五 00:00"),
    (
        "0 0 1,15 * 1-5",
        "on days 1 and 15 of every month as well as on weekdays (Mon to Fri), at 00:00",
        "每月 1 日、15 日以及周一至周五 00:00",
    ),
    (
        "0 9 25 12 mon",
        "on December 25 as well as on Mondays in December, at 09:00",
        "每年 12 月 25 日以及当月的每周一 09:00",
    ),
    ("*/5 * 13 * 5", "every 5 minutes on day 13 of every month as well as on Fridays", "每月 13 日以及每周五每 5 分钟"),
    ("0 0 1-31 * mon", "daily at 00:00", "每天 00:00"),
    ("0 0 13 * 0-6", "daily at 00:00", "每天 00:00"),
    # The day rule: both are needed, since one begins with a star
    (
        "0 0 1-7 * */7",
        "on days 1 to 7 of every month when they fall on Sunday, at 00:00",
        "每月 1 日至 7 日（仅限周日）00:00",
    ),
    (
        "0 0 */2 * mon-fri",
        "on every 2nd day from 1 to 31 of every month when it falls on a weekday (Mon to Fri), at 00:00",
        "每月 1 日至 31 日每 2 天（仅限周一至周五）00:00",
    ),
    (
        "0 0 13 * */5",
        "on day 13 of every month when it falls on Friday or Sunday, at 00:00",
        "每月 13 日（仅限周五、周日）00:00",
    ),
    ("0 0 */1 * mon", "every Monday at 00:00", "每周一 00:00"),
    # Whatever else
    ("*/7 * * * *", "every 7 minutes from :00 to :56 of every hour", "每小时 00 至 56 分每 7 分钟"),
    ("0-29 * * * *", "every minute from :00 to :29 of every hour", "每小时 00 至 29 分每分钟"),
    ("*/7 9-17 * * *", "every 7 minutes from :00 to :56 in the hours 09 to 17", "09 至 17 时的 00 至 56 分每 7 分钟"),
    ("5,10,20 9-17 * * *", "at :05, :10 and :20 in the hours 09 to 17", "09 至 17 时的 05、10、20 分"),
    ("*/5 */2 * * *", "every 5 minutes in every 2nd hour from 00 to 22", "00 至 22 时（每 2 小时）每 5 分钟"),
    ("15,45 * * * * *", "at seconds 15 and 45 of every minute", "每分钟的第 15、45 秒"),
    (
        "5-7 * 9-17 * * *",
        "at seconds 05 to 07 of every minute in the hours 09 to 17",
        "09 至 17 时每分钟的第 05 至 07 秒",
    ),
    ("* 0-4 * * * *", "every second in the minutes 00 to 04 of every hour", "每小时 00 至 04 分的每秒"),
    (
        "*/10 */5 * * * *",
        "every 10 seconds in every 5th minute from 00 to 55 of every hour",
        "每小时 00 至 55 分（每 5 分钟）的每 10 秒",
    ),
]


@pytest.mark.parametrize(("text", "english", "chinese"), TABLE, ids=[row[0] for row in TABLE])
def test_a_text_reads_so(text: str, english: str, chinese: str) -> None:
    cron = CronExpression(text)
    assert cron.describe() == english
    assert cron.describe("zh") == chinese


def test_another_language_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no language 'de'; there are 'en' and 'zh'"):
        CronExpression("* * * * *").describe("de")  # type: ignore[arg-type]


def any_text(luck: Random) -> str:
    """A text with few fields restricted, as they are written, or with many."""
    bounds = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    rate = luck.choice([0.3, 0.6, 0.9])
    fields = []
    for low, high in bounds:
        items = []
        for _ in range(luck.choice([1, 1, 1, 2, 3])):
            first, last = sorted(luck.choices(range(low, high + 1), k=2))
            span = luck.choice(["*", str(first), f"{first}-{last}", f"{low}-{last}", f"{first}-{high}"])
            items.append(span + luck.choice(["", "", "", "/2", "/3", "/5", "/6", "/10", "/12", "/15", "/20", "/30"]))
        fields.append(",".join(items) if luck.random() < rate else "*")
    if luck.random() < 0.7:
        fields[0] = "0"
    return " ".join(fields)


def meaning(fields: CronFields) -> tuple[object, ...]:
    """When the text fires, apart from clock changes: the days of each kind of month, and the times of day."""
    return fields.seconds, fields.minutes, fields.hours, fields.months, fields.days_by_first_weekday()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_sentence_never_stands_for_two_schedules(language: str) -> None:
    luck, said = Random(4), dict[str, tuple[str, tuple[object, ...]]]()
    for _ in range(6000):
        text = any_text(luck)
        try:
            cron = CronExpression(text)
        except CronExpressionError:
            continue
        sentence = cron.describe(language)  # type: ignore[arg-type]
        other, meant = said.setdefault(sentence, (text, meaning(cron.fields)))
        assert meant == meaning(cron.fields), f"{sentence!r} is said of {other!r} and of {text!r}"
    assert len(said) > 3000


def test_sentences_are_of_one_language_and_well_set() -> None:
    luck = Random(5)
    for _ in range(3000):
        try:
            cron = CronExpression(any_text(luck))
        except CronExpressionError:
            continue
        english, chinese = cron.describe("en"), cron.describe("zh")
        assert english.isascii()
        assert not re.search(r"  |^ | $| ,|,$|\b(\w+) \1\b|%|None", english), english
        assert not re.search(r"[A-Za-z]", chinese), chinese
        assert not re.search(r"  |^ | $|的的|每每|、$|[\u4e00-\u9fff]\d|\d[\u4e00-\u9fff]", chinese), chinese
