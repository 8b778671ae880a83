; When memory is full, a handler has room to work in until it drops what fills it. Only in a
; heap that cannot grow.
(define kept '())
(define (drop) (set! kept '()))
(define (fill) (set! kept (cons 1 kept)) (fill))
(define (say text) (drop) text)
(print (try fill say))
(print (try fill (lambda (text) (drop) text)))
(print (try fill (lambda texts (let ((sum (fold + 0 (range 0 3)))) (drop) (cons sum texts)))))
; An error other than that, in a full heap; one in the handler; a handler that fills it again.
(print (try (lambda () (try fill (lambda (text) (error "after that")))) say))
(print (try (lambda () (try fill (lambda (text) (car text)))) say))
(print (try (lambda () (try (lambda () (try fill (lambda (text) (fill)))) (lambda (text) (fill)))) say))
; What one handler had is there for the next.
(print (try (lambda () (times 5 (lambda (i) (try fill say))) (fill)) say))
; With large and small objects, so that there are few places of any size.
(define (fill-with n) (set! kept (cons (make-vector n) kept)) (fill-with n))
(define (fill-down-from n)
  (try (lambda () (fill-with n)) (lambda (text) text))
  (cond ((> n 0) (fill-down-from (quotient n 2))) (else (fill))))
(print (try (lambda () (fill-down-from 2000)) say))
; In a thread.
(print (join (spawn (lambda () (try fill say)))))
(print (try (lambda () (join (spawn fill))) say))
(print (length (range 0 1000)))
