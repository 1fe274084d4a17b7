"""The job `report`: what happened on a day, as Markdown and as one self-contained HTML page.

::

    store ──► figures ──► document (sentences, tables; English or Chinese) ──► pages (Markdown, HTML) ──► files
"""
